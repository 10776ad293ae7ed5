import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { adminKey } from '../../src/auth/admin.ts'
import { ConfigError } from '../../src/config.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'mlx-training-admin-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const mode = (path: string) => statSync(path).mode & 0o777

test('made once, kept for its owner alone, used again', async () => {
  const made = await adminKey({ apiKey: null, home: join(home, 'new') })
  const file = join(home, 'new', 'admin.key')
  expect(made).toMatchObject({ key: expect.stringMatching(/^mt_admin_[0-9a-f]{64}$/), file, fresh: true })
  expect(readFileSync(file, 'utf8').trim()).toBe(made.key)
  expect([mode(join(home, 'new')), mode(file)]).toEqual([0o700, 0o600])
  expect(await adminKey({ apiKey: null, home: join(home, 'new') })).toEqual({ ...made, fresh: false })
})

test('a file that others could read is closed to them', async () => {
  await adminKey({ apiKey: null, home })
  chmodSync(join(home, 'admin.key'), 0o644)
  expect(await adminKey({ apiKey: null, home })).toMatchObject({ wasOpen: true })
  expect(mode(join(home, 'admin.key'))).toBe(0o600)
})

test('the configured key wins and is written nowhere', async () => {
  expect(await adminKey({ apiKey: 'mine', home })).toMatchObject({ key: 'mine', file: null, fresh: false })
  expect(() => statSync(join(home, 'admin.key'))).toThrow()
})

test('a damaged file is told, not replaced', async () => {
  writeFileSync(join(home, 'admin.key'), '\n', { mode: 0o600 })
  await expect(adminKey({ apiKey: null, home })).rejects.toThrow(ConfigError)
})

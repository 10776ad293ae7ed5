import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it, vi } from 'vitest'
import { FAILPOINTS } from '../../src/files/failpoints.ts'

/** As a process that starts with the variable sees it. */
async function armed(text: string): Promise<(name: string) => boolean> {
  vi.stubEnv(FAILPOINTS, text)
  vi.resetModules()
  return (await import('../../src/files/failpoints.ts')).failpoint
}
afterEach(() => vi.unstubAllEnvs())

it('does nothing unless it is asked to', async () => {
  const failpoint = await armed('')
  expect(failpoint('store.commit')).toBe(false)
})

it('acts at the pass that is named, and at no other', async () => {
  const failpoint = await armed('a@2=skip,b=enospc')
  expect(['a', 'a', 'a', 'c'].map(failpoint)).toEqual([false, true, false, false])
  expect(() => failpoint('b')).toThrow(expect.objectContaining({ code: 'ENOSPC' }))
  expect(failpoint('b')).toBe(false)
})

it('with a marker acts in one process of several', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'failpoints-'))
  try {
    const marker = join(folder, 'fired')
    const [first, second] = [await armed(`a=skip~${marker}`), await armed(`a=skip~${marker}`)]
    expect(first('a')).toBe(true)
    expect(second('a')).toBe(false)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

it('refuses what it does not understand', async () => {
  await expect(armed('a=explode')).rejects.toThrow(/"a=explode" is not NAME/)
})

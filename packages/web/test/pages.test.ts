import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROUTES } from '@mlx-training/contract'
import { expect, test } from 'vitest'
import { WEB_PAGES } from '../../server/src/http/web-pages.ts'

const SOURCE = fileURLToPath(new URL('../src', import.meta.url))
/** What the SDK's clients send with: `heard` and `missed` requests, and the progress of an upload. */
const SENDERS = ['session.ts', 'pages/data/upload.ts']
const PAGES = join(SOURCE, 'pages.ts')

test('the server answers exactly the addresses that the dashboard has, and none of them is of the API', () => {
  const patterns = [...readFileSync(PAGES, 'utf8').matchAll(/pattern: '([^']+)'/g)].map(([, pattern]) => pattern)
  expect(patterns).toEqual([...WEB_PAGES])
  const api = Object.values(ROUTES).map(({ path }) => path.split('/')[1])
  for (const page of WEB_PAGES.slice(1)) expect(api).not.toContain(page.split('/')[1])
})

test('the SDK is the only way to the service: nothing else is imported that could be one, and fetch is called where its client is made', () => {
  const known = /^(\.|preact(\/|$)|@preact\/signals$|@mlx-training\/sdk$|uplot$|virtual:)/
  for (const file of readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })) {
    if (!/\.tsx?$/.test(file)) continue
    const text = readFileSync(join(SOURCE, file), 'utf8')
    const imports = [...text.matchAll(/^import (?:[^'`]*? from )?'([^']+)'/gm)].map(([, from]) => from ?? '')
    expect(
      imports.filter((from) => !known.test(from)),
      file,
    ).toEqual([])
    if (!SENDERS.includes(file)) expect(text, file).not.toMatch(/\bfetch\(|XMLHttpRequest|EventSource\(|WebSocket\(/)
    expect(text, file).not.toMatch(/innerHTML/)
  }
})

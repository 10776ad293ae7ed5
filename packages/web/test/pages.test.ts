import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ROUTES } from '@mlx-training/contract'
import { expect, test } from 'vitest'
import { WEB_PAGES } from '../../server/src/http/web-pages.ts'

const PAGES = fileURLToPath(new URL('../src/pages.ts', import.meta.url))

test('the server answers exactly the addresses that the dashboard has, and none of them is of the API', () => {
  const patterns = [...readFileSync(PAGES, 'utf8').matchAll(/pattern: '([^']+)'/g)].map(([, pattern]) => pattern)
  expect(patterns).toEqual([...WEB_PAGES])
  const api = Object.values(ROUTES).map(({ path }) => path.split('/')[1])
  for (const page of WEB_PAGES.slice(1)) expect(api).not.toContain(page.split('/')[1])
})

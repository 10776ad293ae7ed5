import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { CODES } from '../packages/server/src/datasets/codes.ts'

test('docs/datasets.md lists every code of a finding, and whether it is an error', () => {
  const text = readFileSync(new URL('../docs/datasets.md', import.meta.url), 'utf8')
  const listed = [...text.matchAll(/^\| `(\w+)` \| (error|warning) \|/gm)].map(([, code, severity]) => [code, severity])
  expect(listed).toEqual(Object.entries(CODES))
})

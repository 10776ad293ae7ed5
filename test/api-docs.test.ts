import { expect, test } from 'vitest'
import { apiDocument } from './api-docs/document.ts'

test('docs/api.md is what the contract says (npm run docs:api writes it)', async () => {
  await expect(apiDocument()).toMatchFileSnapshot('../docs/api.md')
})

import { expect, it } from 'vitest'
import { soakDatasets } from '../../../../test/soak/datasets.ts'

it('a few hundred mutated files; test:soak takes ten thousand', () => {
  const { files, invalid } = soakDatasets(300)
  expect(invalid).toBeGreaterThan(files / 2)
})

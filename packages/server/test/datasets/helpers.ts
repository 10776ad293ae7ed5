import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ServiceError, type ValidateResponse } from '@mlx-training/contract'
import { onTestFinished } from 'vitest'
import { createDatasets } from '../../src/datasets/datasets.ts'
import { Pass, type PassOptions } from '../../src/datasets/pass.ts'
import { FileFault } from '../../src/datasets/split/fault.ts'
import { createClientPaths } from '../../src/files/client-paths.ts'

export const LIMITS = { maxExpandedBytes: 1e9, maxExpansionRatio: 200 }

/** The report on a file with these bytes, read in chunks of the given sizes (the last size repeats). */
export function check(
  bytes: Buffer | string,
  options: Omit<PassOptions, 'size'> = {},
  sizes: number[] = [1 << 20],
): ValidateResponse {
  const file = Buffer.from(bytes)
  const pass = new Pass({ ...options, size: file.length })
  let at = 0
  try {
    for (let i = 0; at < file.length; i++) {
      const size = sizes[Math.min(i, sizes.length - 1)] as number
      // A copy that is overwritten afterwards, as the reader's buffer is.
      const chunk = Buffer.from(file.subarray(at, at + size))
      at += size
      pass.push(chunk)
      chunk.fill(0x21)
    }
  } catch (error) {
    if (error instanceof FileFault) return pass.end(error)
    throw error
  }
  return pass.end()
}

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'datasets-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A data set service over a fresh folder, with one file in it. */
export async function serviceWith(contents: Buffer | string, name = 'data.json') {
  const folder = await temporaryFolder()
  await writeFile(join(folder, name), contents)
  const datasets = createDatasets({
    paths: createClientPaths(folder),
    roots: [folder],
    home: join(folder, 'home'),
    limits: LIMITS,
    openUploaded: () => Promise.reject(new ServiceError('not_found', 'There is none')),
  })
  return { folder, datasets, name }
}

export const lines = (...rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('')

/** `count` different good Alpaca rows. */
export const alpacaRows = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    instruction: `What is number ${i} squared?`,
    input: '',
    output: `It is ${i * i}.`,
  }))

export const turn = (from: string, value: unknown) => ({ from, value })

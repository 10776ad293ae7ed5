import { join } from 'node:path'
import { ServiceError, type ValidateResponse } from '@mlx-training/contract'
import type { ClientPaths } from '../files/port.ts'
import { Pass, runPass } from './pass.ts'
import type { Datasets } from './port.ts'
import { SnapshotWriter } from './snapshot-writer.ts'
import { readChunks } from './split/chunks.ts'
import { plural } from './words.ts'

/** Errors that a refusal carries; the whole report is at POST /datasets/validate. */
const MAX_REFUSAL_ERRORS = 20

export interface DatasetsOptions {
  paths: ClientPaths
  roots: readonly string[]
  /** Snapshots go to `<home>/snapshots`. */
  home: string
}

export function createDatasets({ paths, roots, home }: DatasetsOptions): Datasets {
  return {
    async validate(clientPath) {
      const { handle, size } = await paths.openFile(clientPath, roots)
      try {
        return await runPass(readChunks(handle), new Pass({ size }))
      } finally {
        await handle.close()
      }
    },

    async snapshot(clientPath, format) {
      const { handle, size } = await paths.openFile(clientPath, roots)
      try {
        const writer = await SnapshotWriter.create(join(home, 'snapshots'))
        try {
          const pass = new Pass({ size, asked: format, onGood: (row, sample) => writer.add(row, sample) })
          // After the first bad row nothing will be published, but the rest is still checked for the report.
          const write = async () => (pass.hasErrors ? writer.discard() : writer.flush())
          const report = await runPass(readChunks(handle), pass, write)
          if (!report.valid || report.format === null) throw refusal(clientPath, report)
          return { ...(await writer.publish()), format: report.format, samples: report.valid_samples, report }
        } finally {
          await writer.close()
        }
      } finally {
        await handle.close()
      }
    },
  }
}

function refusal(clientPath: string, report: ValidateResponse): ServiceError {
  const bad = report.total_samples - report.valid_samples
  const counts = Object.entries(report.counts)
    .map(([code, count]) => `${code} ${count}`)
    .join(', ')
  return new ServiceError(
    'invalid_dataset',
    `"${clientPath}" can't be trained on: ${report.errors.slice(0, 3).join(' | ')}. ` +
      `${bad} of ${plural(report.total_samples, 'row')} have errors. Found: ${counts}. ` +
      'POST /datasets/validate tells all of it.',
    {
      errors: report.errors.slice(0, MAX_REFUSAL_ERRORS).map((message) => ({ field: 'dataset', message })),
    },
  )
}

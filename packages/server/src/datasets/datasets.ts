import { join } from 'node:path'
import { isDatasetId, ServiceError, type ValidateResponse } from '@mlx-training/contract'
import type { ClientPaths } from '../files/port.ts'
import type { ExpansionLimits } from './containers/gzip.ts'
import { withoutLines } from './containers/records.ts'
import { Source } from './containers/source.ts'
import { openOffThread } from './containers/thread.ts'
import { Pass, type PassOptions, runPass } from './pass.ts'
import type { DatasetFile, Datasets } from './port.ts'
import { SnapshotWriter } from './snapshot-writer.ts'
import { plural } from './words.ts'

/** Errors that a refusal carries; the whole report is at POST /datasets/validate. */
const MAX_REFUSAL_ERRORS = 20

export interface DatasetsOptions {
  paths: ClientPaths
  roots: readonly string[]
  /** Snapshots go to `<home>/snapshots`. */
  home: string
  limits: ExpansionLimits
  /** Opens an uploaded data set. ServiceError('not_found'). */
  openUploaded: (id: string) => Promise<DatasetFile>
}

export function createDatasets({ paths, roots, home, limits, openUploaded }: DatasetsOptions): Datasets {
  async function withFile<T>(source: string, work: (file: DatasetFile) => Promise<T>): Promise<T> {
    const file = isDatasetId(source)
      ? await openUploaded(source)
      : { ...(await paths.openFile(source, roots)), name: source }
    try {
      return await work(file)
    } finally {
      await file.handle.close()
    }
  }

  async function pass(
    { handle, name }: DatasetFile,
    options: Omit<PassOptions, 'size'>,
    afterChunk?: (pass: Pass) => Promise<void>,
  ): Promise<ValidateResponse> {
    const source = await Source.of(handle.fd, name)
    const { chunks, lines } = await openOffThread(source, limits)
    const pass = new Pass({ ...options, size: source.size })
    const report = await runPass(chunks, pass, afterChunk && (() => afterChunk(pass)))
    return lines === 'file' ? report : withoutLines(report)
  }

  return {
    validate: (source) => withFile(source, (file) => pass(file, {})),

    check: (file, asked) => pass(file, { asked }),

    snapshot: (source, format) =>
      withFile(source, async (file) => {
        const writer = await SnapshotWriter.create(join(home, 'snapshots'))
        try {
          const report = await pass(
            file,
            { asked: format, onGood: (row, sample) => writer.add(row, sample) },
            // After the first bad row nothing will be published, but the rest is still checked for the report.
            async ({ hasErrors }) => (hasErrors ? writer.discard() : writer.flush()),
          )
          if (!report.valid || report.format === null) throw refusal(source, report)
          return {
            ...(await writer.publish()),
            format: report.format,
            samples: report.valid_samples,
            report,
            datasetId: isDatasetId(source) ? source : null,
          }
        } finally {
          await writer.close()
        }
      }),
  }
}

function refusal(source: string, report: ValidateResponse): ServiceError {
  const bad = report.total_samples - report.valid_samples
  const counts = Object.entries(report.counts)
    .map(([code, count]) => `${code} ${count}`)
    .join(', ')
  return new ServiceError(
    'invalid_dataset',
    `"${source}" can't be trained on: ${report.errors.slice(0, 3).join(' | ')}. ` +
      `${bad} of ${plural(report.total_samples, 'row')} have errors. Found: ${counts}. ` +
      'POST /datasets/validate tells all of it.',
    {
      errors: report.errors.slice(0, MAX_REFUSAL_ERRORS).map((message) => ({ field: 'dataset', message })),
    },
  )
}

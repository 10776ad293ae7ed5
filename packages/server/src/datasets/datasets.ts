import { join } from 'node:path'
import { isDatasetId, ServiceError, type ValidateResponse } from '@mlx-training/contract'
import type { ClientPaths } from '../files/port.ts'
import type { ExpansionLimits } from './containers/gzip.ts'
import type { Cancellable, DatasetFile, Datasets, ReadOptions } from './port.ts'
import type { Checked } from './threads/check.ts'
import { offThread, THREADS } from './threads/off-thread.ts'
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

  const checked = (
    file: DatasetFile,
    options: ReadOptions,
    { trained, snapshots, signal }: { trained?: DatasetFile | undefined; snapshots?: string } & Cancellable = {},
  ): Promise<Checked> =>
    offThread(
      'check',
      {
        ...readAs(file, options),
        file: opened(file),
        limits,
        trained: trained && { ...readAs(trained, options), ...opened(trained) },
        snapshots,
        threads: THREADS,
      },
      signal,
    )

  return {
    async validate(source, { validation, signal, ...options } = {}) {
      return await withFile(source, async (file) => {
        const { report } = await checked(file, options, { signal })
        if (validation === undefined) return report
        return await withFile(validation, async (held) => {
          const { report: heldReport, leakage } = await checked(held, options, { trained: file, signal })
          return { ...report, validation: { ...heldReport, leakage: leakage ?? { rows: 0, questions: 0 } } }
        })
      })
    },

    snapshot: (source, format, { trainedOn, signal, ...maps } = {}) =>
      withFile(source, async (file) => {
        const write = (trained?: DatasetFile) =>
          checked(file, { format, ...maps }, { trained, snapshots: join(home, 'snapshots'), signal })
        const { report, snapshot, leakage } = await (trainedOn === undefined ? write() : withFile(trainedOn, write))
        if (snapshot === null || report.format === null) throw refusal(source, report)
        return {
          ...snapshot,
          format: report.format,
          samples: report.valid_samples,
          report,
          datasetId: isDatasetId(source) ? source : null,
          leakage,
        }
      }),

    pick: (source, samples, { signal, ...options } = {}) =>
      withFile(source, async (file) => {
        const task = { ...readAs(file, options), file: opened(file), limits, threads: THREADS }
        const { report, snapshot, problems } = await offThread(
          'pickRows',
          { ...task, samples, snapshots: join(home, 'snapshots') },
          signal,
        )
        if (report.format === null || report.counts.format_mismatch) throw refusal(source, report)
        return { ...snapshot, format: report.format, problems: new Map(problems) }
      }),
  }
}

/** What a request asks for, else what the data set was uploaded with. */
function readAs({ reading = {} }: DatasetFile, { format, columns, tags }: ReadOptions) {
  return {
    asked: format ?? reading.format,
    columns: columns ?? reading.columns,
    tags: tags ?? reading.tags,
  }
}

const opened = ({ handle, name }: DatasetFile) => ({ fd: handle.fd, name })

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

import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { type Dataset, type DatasetOrigin, ServiceError } from '@mlx-training/contract'
import type { DatasetRecord, DatasetStore, DatasetUse } from '../../store/port.ts'
import type { ExpansionLimits } from '../containers/gzip.ts'
import { containerOf } from '../containers/index.ts'
import type { DatasetFile, Datasets } from '../port.ts'
import { buildIndex } from './build-index.ts'
import { cleanRows } from './clean.ts'
import type { Library, Received, Upload } from './port.ts'
import { checkRoom, receive } from './receive.ts'
import { RowIndex } from './row-index.ts'
import { type RowWriter, withWriters } from './row-writer.ts'
import { pageOf } from './rows.ts'
import { FILES, newId, type Shelf } from './shelf.ts'
import { splitRows } from './split-rows.ts'

export interface LibraryOptions {
  store: DatasetStore
  shelf: Shelf
  datasets: Pick<Datasets, 'check'>
  limits: ExpansionLimits & { maxUploadBytes: number }
}

/** Opens the file of an uploaded data set, for whatever reads data sets. */
export function createOpener(store: DatasetStore, shelf: Shelf): (id: string) => Promise<DatasetFile> {
  return async (id) => {
    const dataset = await store.get(id)
    if (!dataset) throw missing(id)
    return { handle: await shelf.open(id, 'data'), name: fileNameOf(dataset) }
  }
}

export function createLibrary({ store, shelf, datasets, limits }: LibraryOptions): Library {
  const find = async (id: string): Promise<DatasetRecord> => {
    const dataset = await store.get(id)
    if (!dataset) throw missing(id)
    return dataset
  }

  const shown = async (dataset: DatasetRecord): Promise<Dataset> => told(dataset, await store.uses([dataset.id]))

  const withRows = async <T>(dataset: DatasetRecord, work: (index: RowIndex) => Promise<T>): Promise<T> => {
    const index = await shelf.open(dataset.id, 'index')
    const inPlace = dataset.container === 'jsonl' && !dataset.compressed
    const rows = await shelf.open(dataset.id, inPlace ? 'data' : 'rows').catch(async (error) => {
      await index.close()
      throw error
    })
    const opened = await RowIndex.open(index, rows)
    try {
      return await work(opened)
    } finally {
      await opened.close()
    }
  }

  /** What was received becomes a data set; when it is there already, `received` goes. */
  const add = async (
    received: Received,
    { name, fileName, format }: Upload,
    origin: DatasetOrigin | null = null,
  ): Promise<{ dataset: DatasetRecord; inserted: boolean }> => {
    const identity = identityOf(received.sha256, fileName, format)
    try {
      const there = await store.byIdentity(identity)
      if (there) return { dataset: there, inserted: false }
      const { rows, container, compressed } = await buildIndex(received.folder, fileName, limits)
      const handle = await open(join(received.folder, FILES.data), 'r')
      const report = await datasets.check({ handle, name: fileName }, format).finally(() => handle.close())
      const id = newId()
      await shelf.publish(received.folder, id)
      const result = await store
        .insert({
          id,
          identity,
          name,
          format: report.format,
          container,
          compressed,
          rows,
          valid_rows: report.valid_samples,
          bytes: received.bytes,
          sha256: received.sha256,
          valid: report.valid,
          origin,
          createdAt: new Date().toISOString(),
          report,
        })
        .catch(async (error) => {
          await shelf.remove(shelf.folder(id))
          throw error
        })
      if (!result.inserted) await shelf.remove(shelf.folder(id))
      return result
    } finally {
      await shelf.remove(received.folder)
    }
  }

  /** Rows that were made of another data set's, as a data set. */
  const made = async (part: Received, name: string, origin: DatasetOrigin): Promise<Dataset> =>
    shown((await add(part, { name, fileName: 'rows.jsonl' }, origin)).dataset)

  return {
    async receive(bytes, expected) {
      const folder = await shelf.temporary()
      try {
        return { folder, ...(await receive(bytes, folder, limits.maxUploadBytes, expected)) }
      } catch (error) {
        await shelf.remove(folder)
        throw error
      }
    },

    async add(file, upload) {
      const { dataset, inserted } = await add(file, upload)
      return { ...(await shown(dataset)), already_there: !inserted }
    },

    discard: ({ folder }) => shelf.remove(folder),

    async list(limit, after) {
      const found = await store.list(limit + 1, after)
      const page = found.slice(0, limit)
      const uses = await store.uses(page.map(({ id }) => id))
      const datasets = page.map((dataset) => {
        const { report: _, ...summary } = told(dataset, uses)
        return summary
      })
      return { datasets, next: found.length > limit ? (page.at(-1)?.id ?? null) : null }
    },

    get: async (id) => shown(await find(id)),

    async open(id) {
      const dataset = await find(id)
      return {
        handle: await shelf.open(id, 'data'),
        name: fileNameOf(dataset),
        displayName: dataset.name,
        bytes: dataset.bytes,
      }
    },

    async rows(id, page) {
      const dataset = await find(id)
      return await withRows(dataset, (index) => pageOf(dataset, index, page))
    },

    async remove(id) {
      const dataset = await store.remove(id)
      if (!dataset) throw missing(id)
      await shelf.remove(shelf.folder(id))
      return { id, name: dataset.name, deleted: true }
    },

    async split(id, request) {
      const dataset = await find(id)
      if (!dataset.valid)
        throw new ServiceError(
          'invalid_dataset',
          `"${dataset.name}" has rows with errors: ${dataset.report.errors.slice(0, 3).join(' | ')}. ` +
            'Drop or mend them first: POST /datasets/{id}/clean',
        )
      const parts = await withRows(dataset, async (index) => {
        await checkRoom(shelf.root, dataset.bytes)
        return await splitRows(index, request, shelf)
      })
      const of = (part: 'train' | 'validation') => ({ operation: 'split', dataset_id: id, part }) as const
      const train = await made(parts.train, `${stem(dataset.name)}.train.jsonl`, of('train')).catch(async (error) => {
        await shelf.remove(parts.validation.folder)
        throw error
      })
      const validation = await made(parts.validation, `${stem(dataset.name)}.validation.jsonl`, of('validation'))
      return { train, validation }
    },

    async clean(id, request) {
      const dataset = await find(id)
      const { received, ...done } = await withRows(dataset, async (index) => {
        if (request.dry_run) return { received: null, ...(await cleanRows(index, request, null)) }
        await checkRoom(shelf.root, dataset.bytes)
        return await withWriters(shelf, 1, async (writer) => {
          const cleaned = await cleanRows(index, request, writer as RowWriter)
          if (cleaned.rowsAfter === 0) throw nothingLeft(dataset)
          return { received: await (writer as RowWriter).finish(), ...cleaned }
        })
      })
      const origin = { operation: 'clean', dataset_id: id } as const
      return {
        dataset: received && (await made(received, `${stem(dataset.name)}.clean.jsonl`, origin)),
        rows_before: dataset.rows,
        rows_after: done.rowsAfter,
        repairs: done.repairs,
      }
    },

    sweep: async () => shelf.sweep(new Set(await store.ids())),
  }
}

function told({ identity: _, createdAt, ...dataset }: DatasetRecord, uses: Map<string, DatasetUse[]>): Dataset {
  return {
    ...dataset,
    created_at: createdAt,
    experiments: (uses.get(dataset.id) ?? []).map(({ name }) => name),
  }
}

const missing = (id: string) =>
  new ServiceError('not_found', `There is no data set ${id}; GET /datasets lists those that are there`)

/** The same bytes mean other rows when they are read in another way. */
function identityOf(sha256: string, fileName: string, format: string | undefined): string {
  const { kind, gzip } = containerOf(fileName)
  return createHash('sha256')
    .update(JSON.stringify([sha256, kind, gzip, format ?? null]))
    .digest('hex')
}

/** A name whose endings say what is in the file. */
const fileNameOf = ({ container, compressed }: Pick<DatasetRecord, 'container' | 'compressed'>) =>
  `data.${container}${compressed ? '.gz' : ''}`

/** data.jsonl.gz → data */
const stem = (name: string) => name.replace(/(\.(json|jsonl|ndjson|csv|tsv|parquet|txt|gz))+$/i, '') || 'data'

const nothingLeft = ({ name, rows }: DatasetRecord) =>
  new ServiceError('invalid_parameters', `Nothing would be left of "${name}": all of its ${rows} rows would be dropped`)

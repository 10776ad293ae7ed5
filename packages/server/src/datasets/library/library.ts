import { createHash } from 'node:crypto'
import { type Dataset, type DatasetOrigin, ServiceError } from '@mlx-training/contract'
import type { DatasetRecord, DatasetStore, DatasetUse } from '../../store/port.ts'
import type { ExpansionLimits } from '../containers/gzip.ts'
import { containerOf } from '../containers/index.ts'
import type { DatasetFile, ReadOptions } from '../port.ts'
import { offThread, THREADS } from '../threads/off-thread.ts'
import { placeOf, withRows } from './open-rows.ts'
import type { Library, Received, Upload } from './port.ts'
import { checkRoom, receive } from './receive.ts'
import { pageOf } from './rows.ts'
import { newId, type Shelf } from './shelf.ts'

export interface LibraryOptions {
  store: DatasetStore
  shelf: Shelf
  limits: ExpansionLimits & { maxUploadBytes: number }
}

/** Opens the file of an uploaded data set, for whatever reads data sets. */
export function createOpener(store: DatasetStore, shelf: Shelf): (id: string) => Promise<DatasetFile> {
  return async (id) => {
    const dataset = await store.get(id)
    if (!dataset) throw missing(id)
    return { handle: await shelf.open(id, 'data'), name: fileNameOf(dataset), reading: dataset.reading }
  }
}

export function createLibrary({ store, shelf, limits }: LibraryOptions): Library {
  const find = async (id: string): Promise<DatasetRecord> => {
    const dataset = await store.get(id)
    if (!dataset) throw missing(id)
    return dataset
  }

  const shown = async (dataset: DatasetRecord): Promise<Dataset> => told(dataset, await store.uses([dataset.id]))

  /** Folders for what `work` writes; they are removed unless it succeeds. */
  const withFolders = async <T>(count: number, work: (...folders: string[]) => Promise<T>): Promise<T> => {
    const folders: string[] = []
    try {
      for (let i = 0; i < count; i++) folders.push(await shelf.temporary())
      return await work(...folders)
    } catch (error) {
      await Promise.all(folders.map((folder) => shelf.remove(folder)))
      throw error
    }
  }

  /** What was received becomes a data set; when it is there already, `received` goes. */
  const add = async (
    received: Received,
    { name, fileName, reading = {} }: Upload,
    origin: DatasetOrigin | null = null,
  ): Promise<{ dataset: DatasetRecord; inserted: boolean }> => {
    const identity = identityOf(received.sha256, fileName, reading)
    try {
      const there = await store.byIdentity(identity)
      if (there) return { dataset: there, inserted: false }
      const { folder } = received
      const taken = await offThread('takeIn', { folder, name: fileName, reading, limits, threads: THREADS })
      const { rows, container, compressed, report } = taken
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
          reading,
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
  const made = async (part: Received, name: string, reading: ReadOptions, origin: DatasetOrigin): Promise<Dataset> =>
    shown((await add(part, { name, fileName: 'rows.jsonl', reading }, origin)).dataset)

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
      return await withRows(placeOf(shelf.root, dataset), (index) => pageOf(dataset, index, page))
    },

    async remove(id) {
      const dataset = await store.remove(id)
      if (!dataset) throw missing(id)
      await shelf.remove(shelf.folder(id))
      return { id, name: dataset.name, deleted: true }
    },

    async split(id, request, signal) {
      const dataset = await find(id)
      if (!dataset.valid)
        throw new ServiceError(
          'invalid_dataset',
          `"${dataset.name}" has rows with errors: ${dataset.report.errors.slice(0, 3).join(' | ')}. ` +
            `Drop or mend them first: POST /datasets/${id}/clean`,
        )
      await checkRoom(shelf.root, dataset.bytes)
      const { reading = {} } = dataset
      const rows = placeOf(shelf.root, dataset)
      const parts = await withFolders(2, (...folders) =>
        offThread('splitFile', { rows, reading, request, folders: folders as [string, string] }, signal),
      )
      const of = (part: 'train' | 'validation') => ({ operation: 'split', dataset_id: id, part }) as const
      const name = stem(dataset.name)
      const train = await made(parts.train, `${name}.train.jsonl`, reading, of('train')).catch(async (error) => {
        await shelf.remove(parts.validation.folder)
        throw error
      })
      const validation = await made(parts.validation, `${name}.validation.jsonl`, reading, of('validation'))
      return { train, validation }
    },

    async clean(id, request, signal) {
      const dataset = await find(id)
      if (!request.dry_run) await checkRoom(shelf.root, dataset.bytes)
      const { reading = {} } = dataset
      const rows = placeOf(shelf.root, dataset)
      const { received, rowsAfter, repairs } = await withFolders(request.dry_run ? 0 : 1, async (folder?: string) => {
        const cleaned = await offThread('cleanFile', { rows, reading, request, folder: folder ?? null }, signal)
        if (folder !== undefined && cleaned.rowsAfter === 0) throw nothingLeft(dataset)
        return cleaned
      })
      const origin = { operation: 'clean', dataset_id: id } as const
      // What was converted has the names that its format has.
      const asNow = request.repairs.includes('convert') ? {} : reading
      return {
        dataset: received && (await made(received, `${stem(dataset.name)}.clean.jsonl`, asNow, origin)),
        rows_before: dataset.rows,
        rows_after: rowsAfter,
        repairs,
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
function identityOf(sha256: string, fileName: string, { format, columns, tags }: ReadOptions): string {
  const { kind, gzip } = containerOf(fileName)
  const names = [columns, tags].map((map) => Object.entries(map ?? {}).sort())
  return createHash('sha256')
    .update(JSON.stringify([sha256, kind, gzip, format ?? null, ...(names.flat().length > 0 ? names : [])]))
    .digest('hex')
}

/** A name whose endings say what is in the file. */
const fileNameOf = ({ container, compressed }: Pick<DatasetRecord, 'container' | 'compressed'>) =>
  `data.${container}${compressed ? '.gz' : ''}`

/** data.jsonl.gz → data */
const stem = (name: string) => name.replace(/(\.(json|jsonl|ndjson|csv|tsv|parquet|txt|gz))+$/i, '') || 'data'

const nothingLeft = ({ name, rows }: DatasetRecord) =>
  new ServiceError('invalid_parameters', `Nothing would be left of "${name}": all of its ${rows} rows would be dropped`)

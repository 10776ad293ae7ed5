import type { FileMetaData, RowGroup } from 'hyparquet'
import { FileFault } from '../split/fault.ts'
import { plural } from '../words.ts'
import { checkExpansion, type ExpansionLimits } from './gzip.ts'
import { Lines } from './json-text.ts'
import type { Source } from './source.ts'

/** A row group is decoded at once up to this size, in slices of it beyond. Decoded rows take two to three times that. */
const SLICE_BYTES = 32 * 1024 * 1024
/** A column's part of a row group is read as a whole, and lists within rows can only be decoded from its start. */
const MAX_GROUP_BYTES = { packed: 512 * 1024 * 1024, nested: 256 * 1024 * 1024 }
/** One page; writers make pages of 1 MB, with one text of any length in it. */
const MAX_PAGE_BYTES = 64 * 1024 * 1024
/** `{}` and its line break: what rows will take at least, however little the file tells of them. */
const MIN_ROW_BYTES = 3
/** Column names, statistics and places of all row groups. */
const MAX_METADATA_BYTES = 64 * 1024 * 1024

/**
 * Parquet → JSON Lines, one object a row, structs and lists as they are nested. Reads one row group at a time, a large one
 * in slices; rows are numbered by record, for there are no lines. Throws FileFault.
 */
export async function* parquetToLines(source: Source, limits: ExpansionLimits): AsyncGenerator<Buffer> {
  const [{ parquetMetadataAsync, parquetReadObjects }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ])
  const file = {
    byteLength: source.size,
    slice: async (start: number, end?: number) => (await source.slice(start, end)).buffer,
  }
  await checkEnds(source)
  const metadata = await explained('Its metadata', () => parquetMetadataAsync(file))
  checkReadable(metadata, source.size)
  checkExpansion(Number(metadata.num_rows) * MIN_ROW_BYTES, source.size, limits)
  const lines = new Lines()
  let expanded = 0
  let groupStart = 0
  for (const [number, group] of metadata.row_groups.entries()) {
    const rows = Number(group.num_rows)
    const step = sliceRows(group, number, metadata)
    for (let from = 0; from < rows; from += step) {
      const [rowStart, rowEnd] = [groupStart + from, groupStart + Math.min(rows, from + step)]
      const where = `Row group ${number} (rows ${rowStart} to ${rowEnd - 1})`
      const objects = await explained(where, () =>
        parquetReadObjects({
          file,
          metadata,
          rowStart,
          rowEnd,
          compressors: bounded(compressors),
          useOffsetIndex: true,
        }),
      )
      if (objects.length !== rowEnd - rowStart)
        throw new FileFault('bad_parquet', `${where} holds ${plural(objects.length, 'row')}: the file is damaged`)
      for (const object of objects) {
        lines.add(`${rowText(object)}\n`)
        const bytes = lines.take()
        if (!bytes) continue
        expanded += bytes.length
        checkExpansion(expanded, source.size, limits)
        yield bytes
      }
    }
    groupStart += rows
  }
  if (groupStart === 0) throw new FileFault('no_rows', 'The Parquet file holds no rows')
  await source.checkUnchanged()
  const rest = lines.take(true)
  if (!rest) return
  checkExpansion(expanded + rest.length, source.size, limits)
  yield rest
}

async function checkEnds(source: Source): Promise<void> {
  const tail = source.size < 12 ? Buffer.alloc(0) : await source.slice(source.size - 8)
  const magic = tail.toString('latin1', 4)
  if (magic === 'PARE') throw encrypted()
  if (magic !== 'PAR1')
    throw new FileFault('bad_parquet', 'The Parquet file does not end with "PAR1": it was cut off or is not Parquet')
  if (tail.readUInt32LE(0) > MAX_METADATA_BYTES)
    throw new FileFault('bad_parquet', `Its metadata takes more than ${MAX_METADATA_BYTES} bytes`)
}

const CODECS = new Set(['UNCOMPRESSED', 'SNAPPY', 'GZIP', 'BROTLI', 'ZSTD', 'LZ4', 'LZ4_RAW'])

/** FileFault for what hyparquet can't read, and for places and counts that can't be. */
function checkReadable({ row_groups }: FileMetaData, size: number): void {
  for (const { columns, num_rows } of row_groups)
    for (const { meta_data: column, crypto_metadata, file_path } of columns) {
      if (crypto_metadata || !column) throw encrypted()
      const name = `Column "${column.path_in_schema.join('.')}"`
      if (file_path) throw new FileFault('unsupported_parquet', `${name} is kept in another file, "${file_path}"`)
      if (!CODECS.has(column.codec))
        throw new FileFault(
          'unsupported_parquet',
          `${name} is compressed with ${column.codec ?? 'an unknown codec'}, which can't be read here: ` +
            `write the file with one of ${[...CODECS].join(', ')}`,
        )
      const start = Number(column.dictionary_page_offset || column.data_page_offset)
      const end = start + Number(column.total_compressed_size)
      // A list's column has more values than there are rows, an empty list counting as one.
      if (!(start >= 4 && end <= size && num_rows >= 0n && column.num_values >= num_rows))
        throw new FileFault(
          'bad_parquet',
          `${name} is said to be where it can't be: the file is damaged or was cut off`,
        )
    }
}

const encrypted = () =>
  new FileFault('unsupported_parquet', 'The Parquet file is encrypted: write it without encryption')

/** How many rows of a group to decode at once. FileFault for a group that can't be taken apart and is too large. */
function sliceRows(group: RowGroup, number: number, { schema }: FileMetaData): number {
  const sum = (size: 'total_compressed_size' | 'total_uncompressed_size') =>
    group.columns.reduce((bytes, { meta_data }) => bytes + Number(meta_data?.[size] ?? 0), 0)
  const [packed, unpacked] = [sum('total_compressed_size'), sum('total_uncompressed_size')]
  const nested = schema.some(({ repetition_type }) => repetition_type === 'REPEATED')
  const inPieces = !nested || group.columns.every(({ offset_index_offset }) => offset_index_offset !== undefined)
  if (packed > MAX_GROUP_BYTES.packed || (unpacked > MAX_GROUP_BYTES.nested && !inPieces))
    throw new FileFault(
      'unsupported_parquet',
      `Row group ${number} holds ${group.num_rows} rows in ${Math.round(unpacked / 1e6)} MB, which is too much to decode at ` +
        'once: write the file with smaller row groups, e.g. row_group_size=10000',
    )
  const rows = Math.max(1, Number(group.num_rows))
  if (!inPieces || unpacked <= SLICE_BYTES) return rows
  return Math.max(1, Math.floor((rows * SLICE_BYTES) / unpacked))
}

type Decompress = (input: Uint8Array, outputLength: number) => Uint8Array

/** A page's header tells how much memory it will take, which is not to be believed of any file. */
function bounded<C extends Record<string, Decompress | undefined>>(compressors: C): C {
  const guarded = Object.entries(compressors).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, outputLength: number) => {
      // A page of nulls alone, of which not every library knows the packed form.
      if (outputLength === 0) return new Uint8Array(0)
      if (outputLength > MAX_PAGE_BYTES)
        throw new FileFault('unsupported_parquet', `A page unpacks to more than ${MAX_PAGE_BYTES} bytes`)
      return decompress?.(input, outputLength)
    },
  ])
  return Object.fromEntries(guarded)
}

async function explained<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof FileFault) throw error
    const { code, message } = error as NodeJS.ErrnoException
    // A failing disk is no fault of the file.
    if (code !== undefined && /^E[A-Z]+$/.test(code)) throw error
    const why = message.replace(/^parquet /, '')
    if (/unsupported/.test(why)) throw new FileFault('unsupported_parquet', `${where} can't be read: ${why}`)
    throw new FileFault('bad_parquet', `${where} can't be read: the file is damaged (${why})`)
  }
}

/** In Parquet every struct has all its keys, so a null inside one says only that the key isn't there. */
export function rowText(row: object): string {
  return JSON.stringify(row, function (this: unknown, _key, value: unknown) {
    if (value === null || value === undefined) return this === row || Array.isArray(this) ? null : undefined
    if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString()
    if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
    return value
  })
}

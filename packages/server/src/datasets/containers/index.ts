import { FileFault } from '../split/fault.ts'
import { csvToLines } from './csv.ts'
import { type ExpansionLimits, gunzip } from './gzip.ts'
import { parquetToLines } from './parquet.ts'
import type { Source } from './source.ts'

export interface Container {
  /** `plain`: a JSON array or JSON Lines. */
  kind: 'plain' | 'csv' | 'tsv' | 'parquet'
  gzip: boolean
}

export interface Opened extends Container {
  /** Whether line numbers of the stream are those of the (unpacked) file; else rows are told by number alone. */
  lines: 'file' | 'records'
  /** JSON or JSON Lines. Throws FileFault for what can't be unpacked. */
  chunks: AsyncIterable<Buffer>
}

/** What the file's name says it is. A Parquet file is one by its first bytes, too, whatever its name. */
export function containerOf(name: string): Container {
  const lower = name.toLowerCase()
  const gzip = lower.endsWith('.gz')
  const ending = (gzip ? lower.slice(0, -3) : lower).split('.').at(-1)
  return { kind: ending === 'csv' || ending === 'tsv' || ending === 'parquet' ? ending : 'plain', gzip }
}

/** Opens a file as JSON or JSON Lines, whatever it is packed in. Reading starts with the chunks. */
export async function openContainer(source: Source, limits: ExpansionLimits): Promise<Opened> {
  const head = await source.slice(0, Math.min(4, source.size))
  const { kind, gzip } = containerOf(source.name)
  if (head.toString('latin1') === 'PAR1' || (kind === 'parquet' && !gzip))
    return { kind: 'parquet', gzip: false, lines: 'records', chunks: parquetToLines(source, limits) }
  const bytes = gzip ? gunzip(gzipped(source, head), limits) : source.chunks()
  if (kind === 'parquet')
    return {
      kind,
      gzip,
      lines: 'records',
      chunks: faulty('unsupported_parquet', 'Parquet inside gzip: unpack it first'),
    }
  if (kind === 'plain') return { kind, gzip, lines: 'file', chunks: bytes }
  return { kind, gzip, lines: 'file', chunks: csvToLines(bytes, kind === 'tsv' ? '\t' : null) }
}

async function* gzipped(source: Source, head: Buffer): AsyncGenerator<Buffer> {
  if (source.size === 0) throw new FileFault('empty_file', 'The file is empty: it must hold at least one row')
  if (head[0] !== 0x1f || head[1] !== 0x8b)
    throw new FileFault('bad_gzip', 'The file is named .gz but is not gzip-compressed: name it by what it is')
  yield* source.chunks()
}

// biome-ignore lint/correctness/useYield: it only fails
async function* faulty(...why: ConstructorParameters<typeof FileFault>): AsyncGenerator<Buffer> {
  throw new FileFault(...why)
}

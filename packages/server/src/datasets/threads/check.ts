/** check: a file's report, its snapshot, and what the two files of a run have in common. Runs on whichever thread. */
import type { DatasetFormat, Leakage } from '@mlx-training/contract'
import type { Duplicates } from '../checks/duplicates.ts'
import type { ExpansionLimits } from '../containers/gzip.ts'
import { withoutLines } from '../containers/records.ts'
import { Source } from '../containers/source.ts'
import { openOffThread } from '../containers/thread.ts'
import type { Maps } from '../formats/index.ts'
import { Pass, runPass } from '../pass.ts'
import type { Report } from '../report.ts'
import { SnapshotWriter } from '../snapshot-writer.ts'
import type { RawRow } from '../split/row.ts'
import { startsArray, startsLines } from '../split/rows.ts'
import { boundaryOf } from './boundary.ts'
import { checkInRanges, RANGE_BYTES } from './ranges.ts'

export interface OpenFile {
  fd: number
  /** As the client named it; only its endings count. */
  name: string
}

export interface CheckTask extends Maps {
  file: OpenFile
  asked: DatasetFormat | undefined
  limits: ExpansionLimits
  /** The file to train on, and how that is read, when `file` is to be held out: read first. */
  trained?: (OpenFile & Pick<CheckTask, 'asked' | 'columns' | 'tags'>) | undefined
  /** Where a snapshot of the good rows is written, if the file has no error. */
  snapshots?: string | undefined
  /** How many may share a large file. */
  threads: number
}

export interface Checked {
  report: Report
  snapshot: { path: string; sha256: string } | null
  /** With `trained`. */
  leakage: Leakage | null
  container: 'array' | 'lines' | null
}

/** Takes every row as it lies in the file. */
export interface RowTaker {
  add(row: RawRow): void
  flush(): Promise<void>
}

interface Examined extends Pick<Checked, 'report' | 'container'> {
  duplicates: Duplicates
}

/** Smaller files are read before threads have started. */
const SHARED_FROM = 4 * RANGE_BYTES
const TABLES = { csv: 'CSV', tsv: 'TSV', parquet: 'Parquet' }
/** Two rows of an array are looked for in them. */
const HEAD_BYTES = 1024 * 1024

export async function check(task: CheckTask, taker?: RowTaker): Promise<Checked> {
  const trained = task.trained && (await examine({ ...task, ...task.trained, file: task.trained })).duplicates
  if (task.snapshots === undefined) {
    const { report, duplicates, container } = await examine(task, { trained, taker })
    return { report, snapshot: null, leakage: trained ? duplicates.leakage : null, container }
  }
  const writer = await SnapshotWriter.create(task.snapshots)
  try {
    const { report, duplicates, container } = await examine(task, { trained, writer })
    const snapshot = report.valid && report.format !== null ? await writer.publish() : null
    return { report, snapshot, leakage: trained ? duplicates.leakage : null, container }
  } finally {
    await writer.close()
  }
}

async function examine(
  { file, asked, limits, columns, tags, threads }: CheckTask,
  {
    trained,
    writer,
    taker,
  }: { trained?: Duplicates | undefined; writer?: SnapshotWriter; taker?: RowTaker | undefined } = {},
): Promise<Examined> {
  const source = await Source.of(file.fd, file.name)
  const maps = { columns, tags, asked, trained }
  const { chunks, kind, gzip, lines } = await openOffThread(source, limits)
  if (!writer && !taker && threads > 1 && kind === 'plain' && !gzip && source.size >= SHARED_FROM) {
    const head = await source.slice(0, HEAD_BYTES)
    const boundary = startsArray(head) ? boundaryOf(head) : null
    if (startsLines(head) || boundary) {
      const container = boundary ? ('array' as const) : ('lines' as const)
      return { ...(await checkInRanges(source, maps, threads, boundary)), container }
    }
  }
  const pass = new Pass({
    ...maps,
    table: kind === 'plain' ? undefined : TABLES[kind],
    size: source.size,
    onGood: writer && ((row, sample) => writer.add(row, sample)),
    onRow: taker && ((row) => taker.add(row)),
  })
  // After the first bad row nothing will be published, but the rest is still checked for the report.
  const write = async () => {
    if (pass.hasErrors) writer?.discard()
    else await writer?.flush()
    await taker?.flush()
  }
  // Who takes rows may keep them for longer than a chunk.
  const isInPlace = kind === 'plain' && !gzip && !taker
  const report = await runPass(isInPlace ? source.chunksInPlace() : chunks, pass, write)
  const { duplicates, container } = pass
  if (lines === 'records') return { report: withoutLines(report), duplicates, container }
  // Bytes of what a table was turned into mean nothing to anybody.
  const issues = kind === 'plain' ? report.issues : report.issues.map((issue) => ({ ...issue, offset: null }))
  return { report: { ...report, issues }, duplicates, container }
}

/** cleanFile: named repairs, row by row, and what each of them did. */
import {
  type CleanRequest,
  type DatasetFormat,
  REPAIRS,
  type RepairName,
  type RepairReport,
} from '@mlx-training/contract'
import type { ReadOptions } from '../port.ts'
import { isObject, type JsonObject } from '../words.ts'
import { type Examined, Examiner } from './examine.ts'
import { type RowsPlace, withRows } from './open-rows.ts'
import type { Received } from './port.ts'
import { convertTo } from './repairs/convert.ts'
import { dropDuplicates, dropEmpty, dropInvalid } from './repairs/drops.ts'
import { fixMojibake } from './repairs/mojibake.ts'
import type { Repair } from './repairs/repair.ts'
import { normaliseRoles } from './repairs/roles.ts'
import { trim } from './repairs/trim.ts'
import type { RowIndex } from './row-index.ts'
import { type RowWriter, withWriters } from './row-writer.ts'

const FIRST_ROWS = 10
/** Fewer brackets than this can't be nested so deep that writing them overflows the stack. */
const MANY_LEVELS = 1000

const MAKERS: Record<RepairName, (reading: ReadOptions, format: DatasetFormat | undefined) => Repair> = {
  trim,
  fix_mojibake: fixMojibake,
  normalise_roles: normaliseRoles,
  drop_empty: () => dropEmpty,
  drop_duplicates: dropDuplicates,
  drop_invalid: () => dropInvalid,
  convert: (_, format) => convertTo(format),
}

export interface CleanTask {
  rows: RowsPlace
  reading: ReadOptions
  request: CleanRequest
  /** For the mended rows; null: only tell what would be done. */
  folder: string | null
}

export interface Cleaned {
  rowsAfter: number
  repairs: RepairReport[]
  received: Received | null
}

/**
 * Rows that nothing touched stay byte for byte as they are. ServiceError('invalid_parameters') for a conversion that a row has
 * no place in.
 */
export async function cleanFile({ rows, reading, request, folder }: CleanTask): Promise<Cleaned> {
  return await withRows(rows, (index) =>
    withWriters(folder === null ? [] : [folder], async (writer) => {
      const done = await cleanRows(index, reading, request, writer)
      return { ...done, received: writer && done.rowsAfter > 0 ? await writer.finish() : null }
    }),
  )
}

async function cleanRows(
  index: RowIndex,
  reading: ReadOptions,
  { repairs: asked, format }: CleanRequest,
  writer: RowWriter | undefined,
): Promise<Omit<Cleaned, 'received'>> {
  const steps = REPAIRS.filter((name) => asked.includes(name)).map((name) => ({
    repair: MAKERS[name](reading, format),
    report: { repair: name, rows_changed: 0, rows_dropped: 0, first_rows: [] } as RepairReport,
  }))
  const examiner = new Examiner(reading)
  let sample = 0
  let rowsAfter = 0
  for await (const rows of index.all()) {
    for (const bytes of rows) {
      const kept = mended(bytes, sample++, steps, examiner)
      if (!kept) continue
      rowsAfter++
      writer?.add(kept)
    }
    await writer?.flush()
  }
  return { rowsAfter, repairs: steps.map(({ report }) => report) }
}

/** The row after all steps; null when one dropped it. */
function mended(
  bytes: Buffer,
  sample: number,
  steps: { repair: Repair; report: RepairReport }[],
  examiner: Examiner,
): Buffer | null {
  let row = parsed(bytes)
  if (row === null) {
    // Nothing but dropping helps a row that can't be read.
    const dropping = steps.find(({ report }) => report.repair === 'drop_invalid')
    if (!dropping) return bytes
    note(dropping.report, sample, 'rows_dropped', 'Not a JSON object')
    return null
  }
  let changed = false
  let examined: Examined | null = null
  const look = (): Examined => {
    examined ??= examiner.examine(changed ? Buffer.from(JSON.stringify(row)) : bytes)
    return examined
  }
  for (const { repair, report } of steps) {
    const outcome = repair({ sample, row, examine: look })
    if (outcome === null) continue
    if ('drop' in outcome) {
      note(report, sample, 'rows_dropped', outcome.drop)
      return null
    }
    note(report, sample, 'rows_changed', outcome.what)
    row = outcome.row
    changed = true
    examined = null
  }
  return changed ? Buffer.from(JSON.stringify(row)) : bytes
}

/** null: no JSON object, or one that is nested too deep to be written again. */
function parsed(bytes: Buffer): JsonObject | null {
  const text = bytes.toString('utf8')
  try {
    const row: unknown = JSON.parse(text)
    if (bytes.length > MANY_LEVELS && text.split(/[[{]/, MANY_LEVELS).length === MANY_LEVELS) JSON.stringify(row)
    return isObject(row) ? row : null
  } catch {
    return null
  }
}

function note(report: RepairReport, sample: number, count: 'rows_changed' | 'rows_dropped', what: string): void {
  report[count]++
  if (report.first_rows.length < FIRST_ROWS) report.first_rows.push({ sample, what })
}

/** cleanRows: named repairs, row by row, and what each of them did. */
import {
  type CleanRequest,
  type DatasetFormat,
  REPAIRS,
  type RepairName,
  type RepairReport,
} from '@mlx-training/contract'
import { isObject, type JsonObject } from '../words.ts'
import { type Examined, examine } from './examine.ts'
import { convertTo } from './repairs/convert.ts'
import { dropDuplicates, dropEmpty, dropInvalid } from './repairs/drops.ts'
import { fixMojibake } from './repairs/mojibake.ts'
import type { Repair } from './repairs/repair.ts'
import { normaliseRoles } from './repairs/roles.ts'
import { trim } from './repairs/trim.ts'
import type { RowIndex } from './row-index.ts'
import type { RowWriter } from './row-writer.ts'
import { Turns } from './turns.ts'

const FIRST_ROWS = 10
/** Fewer brackets than this can't be nested so deep that writing them overflows the stack. */
const MANY_LEVELS = 1000

const MAKERS: Record<RepairName, (format: DatasetFormat | undefined) => Repair> = {
  trim: () => trim,
  fix_mojibake: () => fixMojibake,
  normalise_roles: () => normaliseRoles,
  drop_empty: () => dropEmpty,
  drop_duplicates: dropDuplicates,
  drop_invalid: () => dropInvalid,
  convert: convertTo,
}

/**
 * Writes the mended rows with `writer`, or only tells what would be done without one. Rows that nothing touched stay byte for
 * byte as they are. ServiceError('invalid_parameters') for a conversion that a row has no place in.
 */
export async function cleanRows(
  index: RowIndex,
  { repairs: asked, format }: CleanRequest,
  writer: RowWriter | null,
): Promise<{ rowsAfter: number; repairs: RepairReport[] }> {
  const steps = REPAIRS.filter((name) => asked.includes(name)).map((name) => ({
    repair: MAKERS[name](format),
    report: { repair: name, rows_changed: 0, rows_dropped: 0, first_rows: [] } as RepairReport,
  }))
  const turns = new Turns()
  let sample = 0
  let rowsAfter = 0
  for await (const rows of index.all()) {
    for (const bytes of rows) {
      const kept = mended(bytes, sample++, steps)
      await turns.after(bytes.length)
      if (!kept) continue
      rowsAfter++
      writer?.add(kept)
    }
    await writer?.flush()
  }
  return { rowsAfter, repairs: steps.map(({ report }) => report) }
}

/** The row after all steps; null when one dropped it. */
function mended(bytes: Buffer, sample: number, steps: { repair: Repair; report: RepairReport }[]): Buffer | null {
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
    examined ??= examine(changed ? Buffer.from(JSON.stringify(row)) : bytes, sample, 1, true)
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
    if (text.split(/[[{]/, MANY_LEVELS).length === MANY_LEVELS) JSON.stringify(row)
    return isObject(row) ? row : null
  } catch {
    return null
  }
}

function note(report: RepairReport, sample: number, count: 'rows_changed' | 'rows_dropped', what: string): void {
  report[count]++
  if (report.first_rows.length < FIRST_ROWS) report.first_rows.push({ sample, what })
}

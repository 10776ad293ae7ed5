/** pageOf: rows of a data set as they are, as they are trained on, and what is wrong with each. */
import type { DatasetIssue, DatasetRow, RowsResponse } from '@mlx-training/contract'
import type { DatasetRecord } from '../../store/port.ts'
import { shorten } from '../words.ts'
import { examine } from './examine.ts'
import type { RowIndex } from './row-index.ts'

/** A page ends early when its rows come to more: some rows are megabytes long. */
const PAGE_BYTES = 4 * 1024 * 1024
const TEXT_CHARACTERS = 2000

export async function pageOf(
  { id, report, container, reading = {} }: DatasetRecord,
  index: RowIndex,
  { offset, limit, issues: onlyIssues }: { offset: number; limit: number; issues: boolean },
): Promise<RowsResponse> {
  const named = onlyIssues ? samplesOf(report.issues, index.count) : null
  const total = named?.length ?? index.count
  const samples = named
    ? named.slice(offset, offset + limit)
    : Array.from({ length: Math.max(0, Math.min(limit, total - offset)) }, (_, i) => offset + i)
  const rows: DatasetRow[] = []
  let bytesSoFar = 0
  for (const sample of samples) {
    const [entry] = await index.entries(sample, 1)
    if (!entry || (rows.length > 0 && bytesSoFar + entry.length > PAGE_BYTES)) break
    bytesSoFar += entry.length
    const told = report.issues.filter((issue) => issue.sample === sample)
    rows.push(rowOf(await index.bytes(entry), sample, entry.line, { container, reading }, told))
  }
  const next = offset + rows.length
  return { dataset_id: id, total, offset, rows, next_offset: next < total && rows.length > 0 ? next : null }
}

/** Rows that the report names, each once, in their order. */
function samplesOf(issues: DatasetIssue[], count: number): number[] {
  const samples = new Set(issues.flatMap(({ sample }) => (sample !== null && sample < count ? [sample] : [])))
  return [...samples].sort((a, b) => a - b)
}

/** `told`: what the report says of the row, some of which needs the others to be seen: that it is there twice. */
function rowOf(
  bytes: Buffer,
  sample: number,
  line: number,
  { container, reading }: Required<Pick<DatasetRecord, 'container' | 'reading'>>,
  told: DatasetIssue[],
): DatasetRow {
  const hasLines = container !== 'parquet'
  const { conversation, issues } = examine(bytes, sample, hasLines ? line : 1, reading, container === 'json')
  const found = new Set(issues.map(({ code }) => code))
  /** The report knows where in the file the row begins. */
  const asTold = (issue: DatasetIssue) =>
    told.find(({ code, message }) => code === issue.code && message === issue.message) ?? issue
  return {
    sample,
    line: hasLines ? line : null,
    ...contentOf(bytes),
    messages:
      conversation?.turns.map(({ role, content, train }) => ({ role, content, ...(train === false && { train }) })) ??
      null,
    ...(conversation?.tools && { tools: conversation.tools }),
    ...(conversation?.raw && { raw: conversation.raw }),
    issues: [...issues.map(asTold), ...told.filter(({ code }) => !found.has(code))].map((issue) =>
      hasLines ? issue : { ...issue, line: null },
    ),
  }
}

/** The row itself, when it can be written into an answer: nested a hundred thousand deep it can't. */
function contentOf(bytes: Buffer): Pick<DatasetRow, 'row' | 'text'> {
  const text = bytes.toString('utf8')
  try {
    const row: unknown = JSON.parse(text)
    JSON.stringify(row)
    return { row, text: null }
  } catch {
    return { row: null, text: shorten(text, TEXT_CHARACTERS) }
  }
}

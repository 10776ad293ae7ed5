import type { DatasetIssue } from '@mlx-training/contract'
import { CODES, type Code } from './codes.ts'

/** Lines in `errors` and in `warnings`, before "… and N more". */
const MAX_LISTED = 100
/** Entries of one code in `issues`. */
const MAX_ISSUES_PER_CODE = 10
/** Distinct unknown keys and the like that are told one by one. */
const MAX_ONCE = 100

type Severity = 'error' | 'warning'

export interface Place {
  /** Row number from 0; null for the whole file. */
  sample: number | null
  /** From 1; null when no line can be named. */
  line: number | null
  /** Of the row's first byte; null where there is none. */
  offset: number | null
}
/** Rows, lines and bytes that come before. */
export interface Base {
  sample: number
  line: number
  offset: number
}
export const WHOLE_FILE: Place = { sample: null, line: null, offset: null }

interface Told {
  /** Rows that it was found in. */
  count: number
  issue: DatasetIssue
}

/**
 * Counts everything, keeps the first of each kind: memory does not grow with the file. Plain data, so that threads can send
 * it to one another. Findings come in the order of the rows.
 */
export class Findings {
  readonly counts = new Map<Code, number>()
  /** Found so often, and listed or not. */
  readonly found = { error: 0, warning: 0 }
  readonly listed: Record<Severity, DatasetIssue[]> = { error: [], warning: [] }
  readonly issues = new Map<Code, DatasetIssue[]>()
  readonly told = new Map<string, Told>()

  /** `message` may be made only when it is kept. */
  add(
    code: Code,
    message: string | (() => string),
    { sample, line, offset }: Place,
    field: string | null = null,
  ): void {
    this.counts.set(code, (this.counts.get(code) ?? 0) + 1)
    const severity = CODES[code]
    this.found[severity]++
    const ofCode = this.issues.get(code) ?? []
    const listed = this.listed[severity]
    if (ofCode.length >= MAX_ISSUES_PER_CODE && listed.length >= MAX_LISTED) return
    const text = typeof message === 'string' ? message : message()
    this.#keep({ code, sample, line, offset, field, message: text })
  }

  /** Told at its first row and only counted at the others: a column that no format knows is one finding, not a million. */
  addOnce(key: string, code: Code, message: () => string, place: Place, field: string): void {
    this.counts.set(code, (this.counts.get(code) ?? 0) + 1)
    const told = this.told.get(key)
    if (told) told.count++
    else if (this.told.size < MAX_ONCE)
      this.told.set(key, { count: 1, issue: { code, ...place, field, message: message() } })
  }

  /** Those of the rows that come after; `base`: rows, lines and bytes before them. */
  append(later: Findings, base: Base): void {
    const moved = (issue: DatasetIssue): DatasetIssue => ({
      ...issue,
      sample: issue.sample === null ? null : issue.sample + base.sample,
      line: issue.line === null ? null : issue.line + base.line,
      offset: issue.offset === null ? null : issue.offset + base.offset,
      message: issue.code === 'invalid_json' ? withLine(issue.message, base.line) : issue.message,
    })
    for (const [code, count] of later.counts) this.counts.set(code, (this.counts.get(code) ?? 0) + count)
    for (const severity of ['error', 'warning'] as const) {
      this.found[severity] += later.found[severity]
      fill(this.listed[severity], later.listed[severity].map(moved), MAX_LISTED)
    }
    for (const [code, issues] of later.issues) {
      const own = this.issues.get(code) ?? []
      this.issues.set(code, own)
      fill(own, issues.map(moved), MAX_ISSUES_PER_CODE)
    }
    for (const [key, { count, issue }] of later.told) {
      const told = this.told.get(key)
      if (told) told.count += count
      else if (this.told.size < MAX_ONCE) this.told.set(key, { count, issue: moved(issue) })
    }
  }

  /** Forgets all. */
  clear(): void {
    this.counts.clear()
    this.found.error = 0
    this.found.warning = 0
    this.listed.error.length = 0
    this.listed.warning.length = 0
    this.issues.clear()
    this.told.clear()
  }

  #keep(issue: DatasetIssue): void {
    const code = issue.code as Code
    const ofCode = this.issues.get(code) ?? []
    this.issues.set(code, ofCode)
    fill(ofCode, [issue], MAX_ISSUES_PER_CODE)
    fill(this.listed[CODES[code]], [issue], MAX_LISTED)
  }
}

/** What json-problem.ts says of a place names a line of the file, too. */
const withLine = (message: string, before: number) =>
  message.replace(/ at line (\d+), column /, (_, line) => ` at line ${Number(line) + before}, column `)

function fill<T>(list: T[], more: readonly T[], limit: number): void {
  for (const each of more) if (list.length < limit) list.push(each)
}

export interface Listing {
  errors: string[]
  warnings: string[]
  issues: DatasetIssue[]
  counts: Record<string, number>
}

/** What is told of findings about the whole file and of those in rows: whole file first, then by row. */
export function listing(file: Findings, ...ofRows: Findings[]): Listing {
  const all = [file, ...ofRows]
  const once = (code: Severity) =>
    ofRows.flatMap(({ told }) =>
      [...told.values()].map(({ issue }) => issue).filter((each) => severityOf(each) === code),
    )
  const list = (severity: Severity): string[] => {
    const rows = bySample([...ofRows.flatMap(({ listed }) => listed[severity]), ...once(severity)])
    const shown = rows.slice(0, MAX_LISTED)
    const found = ofRows.reduce((sum, each) => sum + each.found[severity], once(severity).length)
    return [
      ...[...file.listed[severity]].reverse().map(inWords),
      ...shown.map(inWords),
      ...(found > shown.length ? [`… and ${found - shown.length} more`] : []),
    ]
  }
  const perCode = new Map<string, DatasetIssue[]>()
  const found = all.flatMap(({ issues, told }) => [
    ...[...told.values()].map(({ issue }) => issue),
    ...[...issues.values()].flat(),
  ])
  const issues = bySample(found).filter((issue) => {
    const ofCode = perCode.get(issue.code) ?? []
    perCode.set(issue.code, ofCode)
    return ofCode.push(issue) <= MAX_ISSUES_PER_CODE
  })
  const counts: Record<string, number> = {}
  for (const { counts: own } of all) for (const [code, count] of own) counts[code] = (counts[code] ?? 0) + count
  return { errors: list('error'), warnings: list('warning'), issues, counts }
}

const severityOf = ({ code }: DatasetIssue) => CODES[code as Code]

/** Findings about the whole file come before those of its rows. Stable. */
const bySample = (issues: DatasetIssue[]) => issues.sort((a, b) => (a.sample ?? -1) - (b.sample ?? -1))

/** The seed's words for warnings ("Sample 45: …"); errors name the line as well, because somebody must go there. */
function inWords({ code, sample, line, message }: DatasetIssue): string {
  if (sample === null) return line === null ? message : `Line ${line}: ${message}`
  return CODES[code as Code] === 'error' && line !== null
    ? `Sample ${sample} (line ${line}): ${message}`
    : `Sample ${sample}: ${message}`
}

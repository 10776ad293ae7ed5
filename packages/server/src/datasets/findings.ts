import type { DatasetIssue } from '@mlx-training/contract'
import { CODES, type Code } from './codes.ts'

/** Lines in `errors` and in `warnings`, before "… and N more". */
const MAX_LISTED = 100
/** Entries of one code in `issues`. */
const MAX_ISSUES_PER_CODE = 10
/** Distinct unknown keys and the like that are told one by one. */
const MAX_ONCE = 100

export interface Place {
  /** Row number from 0; null for the whole file. */
  sample: number | null
  /** From 1; null when no line can be named. */
  line: number | null
  field: string | null
}

/** Counts everything, keeps the first of each kind: memory does not grow with the file. */
export class Findings {
  readonly #counts = new Map<Code, number>()
  readonly #issues: DatasetIssue[] = []
  readonly #issuesOf = new Map<Code, number>()
  readonly #told = new Set<string>()
  readonly #listed = { error: [] as string[], warning: [] as string[] }
  readonly #unlisted = { error: 0, warning: 0 }

  add(code: Code, message: string, place: Place): void {
    this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1)
    const inCode = this.#issuesOf.get(code) ?? 0
    if (inCode < MAX_ISSUES_PER_CODE) {
      this.#issuesOf.set(code, inCode + 1)
      this.#issues.push({ code, ...place, message })
    }
    const severity = CODES[code]
    // Findings about the whole file come last but must not be crowded out by rows.
    if (place.sample === null) this.#listed[severity].unshift(inWords(severity, message, place))
    else if (this.#listed[severity].length < MAX_LISTED) this.#listed[severity].push(inWords(severity, message, place))
    else this.#unlisted[severity]++
  }

  /** Told at its first row and only counted at the others: a column that no format knows is one finding, not a million. */
  addOnce(key: string, code: Code, message: string, place: Place): void {
    if (!this.#told.has(key) && this.#told.size < MAX_ONCE) {
      this.#told.add(key)
      this.add(code, message, place)
    } else this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1)
  }

  list(severity: 'error' | 'warning'): string[] {
    const more = this.#unlisted[severity]
    return more > 0 ? [...this.#listed[severity], `… and ${more} more`] : [...this.#listed[severity]]
  }

  get issues(): DatasetIssue[] {
    return [...this.#issues]
  }

  get counts(): Record<string, number> {
    return Object.fromEntries(this.#counts)
  }
}

/** The seed's words for warnings ("Sample 45: …"); errors name the line as well, because somebody must go there. */
function inWords(severity: 'error' | 'warning', message: string, { sample, line }: Place): string {
  if (sample === null) return line === null ? message : `Line ${line}: ${message}`
  return severity === 'error' && line !== null
    ? `Sample ${sample} (line ${line}): ${message}`
    : `Sample ${sample}: ${message}`
}

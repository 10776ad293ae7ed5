import type { DatasetFormat } from '@mlx-training/contract'
import { Duplicates } from '../checks/duplicates.ts'
import { type Report, reportOf } from '../report.ts'
import { FileFault } from '../split/fault.ts'
import { Tally } from '../tally.ts'
import type { RangeTally } from './range.ts'

/** Tallies of ranges, in their order, into one report. */
export class Merge {
  readonly #tally = new Tally()
  readonly #container: 'array' | 'lines'
  readonly duplicates: Duplicates
  #lines = 0
  fault: FileFault | null = null

  constructor(container: 'array' | 'lines' = 'lines', size = 0, trained?: Duplicates) {
    this.#container = container
    this.duplicates = new Duplicates(undefined, trained, size)
  }

  /** Rows and line breaks so far. */
  get before(): { rows: number; lines: number } {
    return { rows: this.#tally.rows, lines: this.#lines }
  }

  /** Nothing is taken after a fault. */
  add({ tally, lines, fault }: Pick<RangeTally, 'tally' | 'lines' | 'fault'>): void {
    if (this.fault) return
    const base = { sample: this.#tally.rows, line: this.#lines, offset: 0 }
    this.duplicates.add(tally.keys, base)
    this.#tally.append(tally, base)
    this.#lines += lines
    if (fault) this.fault = new FileFault(fault.code, fault.message, fault.line && fault.line + base.line)
  }

  report(size: number, asked: DatasetFormat | undefined, expected: string, fault: FileFault | null = null): Report {
    return reportOf({
      tally: this.#tally,
      duplicates: this.duplicates,
      fault: fault ?? this.fault,
      container: this.#container,
      byteOrderMark: false,
      size,
      asked,
      expected,
    })
  }
}

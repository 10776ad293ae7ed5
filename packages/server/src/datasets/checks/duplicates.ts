import { type Base, Findings, type Place } from '../findings.ts'
import { emptyKey, type RowKey, type RowKeys, readKey } from './row-keys.ts'
import { Seen } from './seen.ts'

/** Of common data sets; how many rows there will be is guessed by it. */
const BYTES_A_ROW = 1000
/** Rows whose places in the tables are fetched at once. */
const FETCHED = 64

/** Rows that train the same thing, and questions asked twice with different answers; in one file or in two. */
export class Duplicates {
  readonly #rows: Seen
  readonly #questions: Seen
  /** The rows to train on, when these are to be held out. */
  readonly #trained: Duplicates | null
  readonly findings = new Findings()
  readonly counts = { exact: 0, normalised: 0, same_question: 0 }
  fetched = 0
  readonly leakage = { rows: 0, questions: 0 }

  /** `bytes`: of the file. */
  constructor(limit?: number, trained: Duplicates | null = null, bytes = 0) {
    this.#rows = new Seen(limit, bytes / BYTES_A_ROW)
    this.#questions = new Seen(limit, bytes / BYTES_A_ROW)
    this.#trained = trained
  }

  /** Rows in their order; `base`: those, and lines and bytes, before the list. */
  add(keys: Pick<RowKeys, 'count' | 'numbers' | 'offsets'>, base: Base): void {
    const key = emptyKey()
    for (let i = 0; i < keys.count; i++) {
      if (i % FETCHED === 0) this.#fetch(keys, i, Math.min(keys.count, i + FETCHED))
      readKey(keys, i, key)
      const sample = key.sample + base.sample
      if (this.#trained) this.#meet(this.#trained, key, base)
      const row = this.#rows.firstOf(key.row, key.rowHigh, sample, key.exact)
      const question = asks(key) ? this.#questions.firstOf(key.question, key.questionHigh, sample) : null
      if (row !== null) this.#sameRow(key, row, base)
      else if (question !== null) this.#sameQuestion(key, question, base)
    }
  }

  #fetch(keys: Pick<RowKeys, 'numbers' | 'offsets'>, from: number, to: number): void {
    const key = emptyKey()
    let sum = 0
    for (let i = from; i < to; i++) {
      readKey(keys, i, key)
      sum ^= this.#rows.touch(key.row) ^ this.#questions.touch(key.question)
    }
    // Used, so that the reads are not left out.
    this.fetched = sum
  }

  /** Whether later rows could not be compared any more. */
  get incomplete(): boolean {
    return this.#rows.full || this.#questions.full
  }

  #sameRow(key: RowKey, first: number, base: Base): void {
    const place = placeOf(key, base)
    if (this.#rows.beside === key.exact) {
      this.counts.exact++
      this.findings.add('duplicate_row', () => `Same as sample ${first}`, place)
    } else {
      this.counts.normalised++
      const what = () => `Same as sample ${first}, letter case and blanks of what is asked aside`
      this.findings.add('normalised_duplicate', what, place)
    }
  }

  #sameQuestion(key: RowKey, first: number, base: Base): void {
    this.counts.same_question++
    const what = () => `Same question as sample ${first} (letter case and blanks aside), another answer`
    this.findings.add('duplicate_prompt', what, placeOf(key, base))
  }

  /** A row to hold out comes across those to train on. */
  #meet(trained: Duplicates, key: RowKey, base: Base): void {
    const row = trained.#rows.find(key.row, key.rowHigh)
    const question = asks(key) ? trained.#questions.find(key.question, key.questionHigh) : null
    if (row !== null) {
      this.leakage.rows++
      const what = () => `Is trained on, too: it is sample ${row} of the training data`
      this.findings.add('leaked_row', what, placeOf(key, base))
    } else if (question !== null) {
      this.leakage.questions++
      const what = () => `Its question is trained on with another answer: sample ${question} of the training data`
      this.findings.add('leaked_question', what, placeOf(key, base))
    }
  }
}

const asks = ({ question, questionHigh }: RowKey) => question !== 0 || questionHigh !== 0

const placeOf = ({ sample, line, offset }: RowKey, base: Base): Place => ({
  sample: sample + base.sample,
  line: line + base.line,
  offset: offset + base.offset,
})

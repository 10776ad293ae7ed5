/** What rows are compared by, and where they are: columns of numbers, so that threads hand on a million without copying. */
const COLUMNS = 7
const [SAMPLE, LINE, ROW, ROW_HIGH, EXACT, QUESTION, QUESTION_HIGH] = [0, 1, 2, 3, 4, 5, 6]

export interface RowKey {
  sample: number
  line: number
  offset: number
  /** 64 bits of what is asked, letter case and blanks aside, and of what is learned. */
  row: number
  rowHigh: number
  /** 32 bits of what is asked to the letter. */
  exact: number
  /** 64 bits of what is asked, letter case and blanks aside; both 0 where nothing is asked. */
  question: number
  questionHigh: number
}

/** Plain data, for threads. Samples, lines and offsets count from where the list begins. */
export class RowKeys {
  count = 0
  numbers = new Int32Array(COLUMNS * 64)
  offsets = new Float64Array(64)

  add(key: RowKey): void {
    if (this.count === this.offsets.length) this.#grow()
    const at = this.count * COLUMNS
    const { numbers } = this
    numbers[at + SAMPLE] = key.sample
    numbers[at + LINE] = key.line
    numbers[at + ROW] = key.row
    numbers[at + ROW_HIGH] = key.rowHigh
    numbers[at + EXACT] = key.exact
    numbers[at + QUESTION] = key.question
    numbers[at + QUESTION_HIGH] = key.questionHigh
    this.offsets[this.count++] = key.offset
  }

  #grow(): void {
    const numbers = new Int32Array(this.numbers.length * 2)
    const offsets = new Float64Array(this.offsets.length * 2)
    numbers.set(this.numbers)
    offsets.set(this.offsets)
    this.numbers = numbers
    this.offsets = offsets
  }
}

export const emptyKey = (): RowKey => ({
  sample: 0,
  line: 0,
  offset: 0,
  row: 0,
  rowHigh: 0,
  exact: 0,
  question: 0,
  questionHigh: 0,
})

/** Fills `key`, which is used again for the next. Keys of another thread are plain data. */
export function readKey({ numbers, offsets }: Pick<RowKeys, 'numbers' | 'offsets'>, index: number, key: RowKey): void {
  const at = index * COLUMNS
  key.sample = numbers[at + SAMPLE] as number
  key.line = numbers[at + LINE] as number
  key.row = numbers[at + ROW] as number
  key.rowHigh = numbers[at + ROW_HIGH] as number
  key.exact = numbers[at + EXACT] as number
  key.question = numbers[at + QUESTION] as number
  key.questionHigh = numbers[at + QUESTION_HIGH] as number
  key.offset = offsets[index] as number
}

import type { DatasetFormat } from '@mlx-training/contract'
import { Duplicates } from './checks/duplicates.ts'
import type { Conversation } from './formats/format.ts'
import { type Maps, type Reading, readingOf } from './formats/index.ts'
import { type Report, reportOf } from './report.ts'
import { RowReader } from './row-reader.ts'
import { FileFault } from './split/fault.ts'
import { MAX_ROW_BYTES, type OnRow, type RawRow } from './split/row.ts'
import { RowSplitter } from './split/rows.ts'
import { Tally } from './tally.ts'

/** Rows after which those read are compared with all before them: their keys are held until then, and to a chunk's end. */
const COMPARED_AT_ONCE = 4096
const START = { sample: 0, line: 0, offset: 0 }

export interface PassOptions extends Maps {
  /** Of the whole file, in bytes. */
  size: number
  /** The format that the user asked for. */
  asked?: DatasetFormat | undefined
  /** What the file is, where it was turned into JSON Lines. */
  table?: string | undefined
  maxRowBytes?: number | undefined
  /** Rows remembered in the search for duplicates. */
  maxSeen?: number | undefined
  /** The rows to train on, when these are to be held out. */
  trained?: Duplicates | undefined
  /** Called with every row that has no error. */
  onGood?: ((row: Conversation, sample: number) => void) | undefined
  /** Called with every row as it lies in the file. */
  onRow?: OnRow | undefined
}

/** One pass over a file: rows come in as chunks of bytes, the report is ready at the end. Synchronous; keeps no rows. */
export class Pass {
  readonly #options: PassOptions
  readonly #reading: Reading
  readonly #splitter: RowSplitter
  readonly #reader: RowReader
  readonly #tally = new Tally()
  readonly duplicates: Duplicates

  constructor(options: PassOptions) {
    const { asked, maxRowBytes = MAX_ROW_BYTES, maxSeen, trained, onGood } = options
    this.#options = options
    this.#reading = readingOf(options, asked)
    this.#splitter = new RowSplitter(maxRowBytes)
    this.#reader = new RowReader(this.#tally, this.#reading, maxRowBytes, onGood)
    this.duplicates = new Duplicates(maxSeen, trained, options.size)
  }

  push(chunk: Buffer): void {
    this.#reader.nextChunk(chunk)
    this.#splitter.push(chunk, this.#row, this.#options.onRow ? undefined : this.#reader.plain)
    if (this.#tally.keys.count >= COMPARED_AT_ONCE) this.#compare()
  }

  /** `fault`: why reading ended before the file did. */
  end(fault: FileFault | null = null): Report {
    const found = fault ?? this.#finish()
    this.#compare()
    return reportOf({
      tally: this.#tally,
      duplicates: this.duplicates,
      fault: found,
      container: this.#splitter.container,
      table: this.#options.table,
      byteOrderMark: this.#splitter.byteOrderMark,
      size: this.#options.size,
      asked: this.#options.asked,
      expected: this.#reading.expected,
    })
  }

  get container(): 'array' | 'lines' | null {
    return this.#splitter.container
  }

  get hasErrors(): boolean {
    return this.#tally.good < this.#tally.rows
  }

  readonly #row = (row: RawRow): void => {
    this.#options.onRow?.(row)
    this.#reader.read(row, this.#tally.rows === 0 && this.#splitter.container === 'lines')
  }

  #finish(): FileFault | null {
    try {
      this.#splitter.end(this.#row)
      return null
    } catch (error) {
      if (error instanceof FileFault) return error
      throw error
    }
  }

  #compare(): void {
    const { keys } = this.#tally
    this.duplicates.add(keys, START)
    keys.count = 0
  }
}

/** Runs a pass over chunks; `afterChunk` is where a writer gets its turn. */
export async function runPass(
  chunks: AsyncIterable<Buffer>,
  pass: Pass,
  afterChunk: () => Promise<void> = async () => {},
): Promise<Report> {
  try {
    for await (const chunk of chunks) {
      pass.push(chunk)
      await afterChunk()
    }
  } catch (error) {
    if (error instanceof FileFault) return pass.end(error)
    throw error
  }
  return pass.end()
}

import type { RowContext } from '../row-context.ts'
import type { PlainRows } from '../split/row.ts'
import { scan } from '../text/scan.ts'
import { PlainReader } from './reader.ts'

const NEWLINE = 0x0a
const isBlank = (byte: number | undefined) => byte === 0x20 || byte === 0x09 || byte === 0x0d

/** Plain rows of chunks, where they lie: to whoever counts them. */
export class PlainRowsInChunks implements PlainRows {
  readonly #reader: PlainReader
  readonly #maxRowBytes: number
  readonly #begin: (line: number, offset: number) => boolean
  readonly #take: (row: PlainReader, line: number, offset: number) => void
  /** Address of the chunk; 0 when it is too large. */
  #chunk = 0

  /** `begin`: whether a row may be read at all; the context begins it then. */
  constructor(
    context: RowContext,
    maxRowBytes: number,
    begin: (line: number, offset: number) => boolean,
    take: (row: PlainReader, line: number, offset: number) => void,
  ) {
    this.#reader = new PlainReader(context)
    this.#maxRowBytes = maxRowBytes
    this.#begin = begin
    this.#take = take
  }

  enter(chunk: Buffer): void {
    this.#chunk = scan.enter(chunk)
  }

  get lines(): number {
    return this.#reader.lines
  }

  read(at: number, line: number, offset: number, oneLine: boolean): number {
    if (this.#chunk === 0 || !this.#begin(line, offset)) return 0
    const start = this.#chunk + at
    let end = this.#reader.read(start)
    if (end === 0 || end - start > this.#maxRowBytes) return 0
    if (oneLine) {
      // The line ends with the row, blanks aside, and has no break inside of it.
      const { bytes } = scan
      while (isBlank(bytes[end])) end++
      if (bytes[end] !== NEWLINE || this.lines > 0 || end - start > this.#maxRowBytes) return 0
    }
    this.#take(this.#reader, line, offset)
    return end - this.#chunk
  }
}

import { Carry, isBlank, type OnRow, type Splitter } from './row.ts'

const NEWLINE = 0x0a

/** JSON Lines: one row a line; blank lines are passed over. */
export class LineSplitter implements Splitter {
  #line: number
  readonly #carry: Carry

  constructor(firstLine: number, maxRowBytes: number) {
    this.#line = firstLine
    this.#carry = new Carry(maxRowBytes)
  }

  push(chunk: Buffer, onRow: OnRow): void {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#emit(chunk.subarray(start, end), false, onRow)
      this.#line++
      start = end + 1
    }
    if (start < chunk.length) this.#carry.add(chunk.subarray(start))
  }

  end(onRow: OnRow): void {
    if (this.#carry.size > 0) this.#emit(Buffer.alloc(0), true, onRow)
  }

  #emit(rest: Buffer, unfinished: boolean, onRow: OnRow): void {
    const bytes = this.#carry.take(rest)
    if (bytes?.every(isBlank)) return
    onRow({ bytes, line: this.#line, unfinished })
  }
}

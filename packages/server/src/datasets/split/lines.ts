import { Carry, isBlank, type OnRow, type PlainRows, type Splitter } from './row.ts'

const NEWLINE = 0x0a

/** JSON Lines: one row a line; blank lines are passed over. */
export class LineSplitter implements Splitter {
  #line: number
  /** Of the next chunk. */
  #offset: number
  #rowOffset: number
  readonly #carry: Carry

  constructor(firstLine: number, offset: number, maxRowBytes: number) {
    this.#line = firstLine
    this.#offset = offset
    this.#rowOffset = offset
    this.#carry = new Carry(maxRowBytes)
  }

  push(chunk: Buffer, onRow: OnRow, plain?: PlainRows): void {
    plain?.enter(chunk)
    let start = 0
    for (;;) {
      let end = (this.#carry.size === 0 && plain?.read(start, this.#line, this.#rowOffset, true)) || 0
      if (end === 0) {
        end = chunk.indexOf(NEWLINE, start)
        if (end === -1) break
        this.#emit(chunk, start, end, false, onRow)
      }
      this.#line++
      start = end + 1
      this.#rowOffset = this.#offset + start
    }
    if (start < chunk.length) this.#carry.add(start === 0 ? chunk : chunk.subarray(start))
    this.#offset += chunk.length
  }

  end(onRow: OnRow): void {
    if (this.#carry.size > 0) this.#emit(Buffer.alloc(0), 0, 0, true, onRow)
  }

  /** Line breaks seen so far. */
  get line(): number {
    return this.#line
  }

  #emit(chunk: Buffer, start: number, end: number, unfinished: boolean, onRow: OnRow): void {
    const row = this.#carry.take(chunk, start, end, this.#line, this.#rowOffset, unfinished)
    if (row.chunk === null || !isBlankFrom(row.chunk, row.start, row.end)) onRow(row)
  }
}

function isBlankFrom(chunk: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (!isBlank(chunk[at] as number)) return false
  return true
}

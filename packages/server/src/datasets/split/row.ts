/** Longer rows are refused, so that one endless line can't fill the memory. */
export const MAX_ROW_BYTES = 16 * 1024 * 1024

/** Where a row lies. */
export class RawRow {
  /** Holds the row's bytes until the callback returns; null when the row is longer than the limit. */
  readonly chunk: Buffer | null
  readonly start: number
  readonly end: number
  /** Line that the row starts on, from 1. */
  readonly line: number
  /** Of its first byte in the file, or in what the file was unpacked to. */
  readonly offset: number
  /** The file ended right after it, with no line break or closing bracket. */
  readonly unfinished: boolean

  constructor(chunk: Buffer | null, start: number, end: number, line: number, offset: number, unfinished: boolean) {
    this.chunk = chunk
    this.start = start
    this.end = end
    this.line = line
    this.offset = offset
    this.unfinished = unfinished
  }

  get bytes(): Buffer | null {
    return this.chunk?.subarray(this.start, this.end) ?? null
  }
}
export type OnRow = (row: RawRow) => void

/** Reads rows of which there is nothing to tell where they lie, before they are told apart from what comes after them. */
export interface PlainRows {
  /** Rows of another chunk follow. */
  enter(chunk: Buffer): void
  /**
   * The index behind the row that begins at `at` of the chunk and has been read with that; 0: it is for `OnRow`. With
   * `oneLine` it is that of the line break after it.
   */
  read(at: number, line: number, offset: number, oneLine: boolean): number
  /** Line breaks inside of the row that was read. */
  readonly lines: number
}

export interface Splitter {
  push(chunk: Buffer, onRow: OnRow, plain?: PlainRows): void
  /** The file has ended. */
  end(onRow: OnRow): void
}

/** The beginning of a row whose rest is in the next chunks. Past the limit it only counts. */
export class Carry {
  #parts: Buffer[] = []
  #size = 0
  readonly #limit: number

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Copies: the reader reuses its chunk. */
  add(bytes: Buffer): void {
    this.#size += bytes.length
    if (this.#size <= this.#limit) this.#parts.push(Buffer.from(bytes))
    else this.#parts = []
  }

  /** The row that ends at `end` of `chunk`, and begins at `start` or, when something was carried, before the chunk. */
  take(chunk: Buffer, start: number, end: number, line: number, offset: number, unfinished: boolean): RawRow {
    const size = this.#size + end - start
    const isWhole = this.#size === 0
    const parts = this.#parts
    if (!isWhole) {
      this.#parts = []
      this.#size = 0
    }
    if (size > this.#limit) return new RawRow(null, 0, 0, line, offset, unfinished)
    if (isWhole) return new RawRow(chunk, start, end, line, offset, unfinished)
    const whole = Buffer.concat([...parts, chunk.subarray(start, end)])
    return new RawRow(whole, 0, whole.length, line, offset, unfinished)
  }

  get size(): number {
    return this.#size
  }
}

export const isBlank = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

/** A byte as people know it: "x" or byte 0xE9. */
export const showByte = (byte: number) =>
  byte > 0x20 && byte < 0x7f && byte !== 0x22
    ? `"${String.fromCharCode(byte)}"`
    : `byte 0x${byte.toString(16).toUpperCase().padStart(2, '0')}`

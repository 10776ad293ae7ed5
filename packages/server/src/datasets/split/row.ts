/** Longer rows are refused, so that one endless line can't fill the memory. */
export const MAX_ROW_BYTES = 16 * 1024 * 1024

export interface RawRow {
  /** Valid until the callback returns; null when the row is longer than the limit. */
  bytes: Buffer | null
  /** Line that the row starts on, from 1. */
  line: number
  /** The file ended right after it, with no line break or closing bracket. */
  unfinished: boolean
}
export type OnRow = (row: RawRow) => void

export interface Splitter {
  push(chunk: Buffer, onRow: OnRow): void
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

  /** The whole row, ended by `bytes`; null when it is longer than the limit. */
  take(bytes: Buffer): Buffer | null {
    const size = this.#size + bytes.length
    const whole = size > this.#limit ? null : this.#parts.length === 0 ? bytes : Buffer.concat([...this.#parts, bytes])
    this.#parts = []
    this.#size = 0
    return whole
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

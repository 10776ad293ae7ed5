import { ArraySplitter } from './array.ts'
import { FileFault } from './fault.ts'
import { LineSplitter } from './lines.ts'
import { isBlank, MAX_ROW_BYTES, type OnRow, type PlainRows, type Splitter, showByte } from './row.ts'

/** Bytes needed to know a byte order mark or another file type. */
const HEAD_BYTES = 4
const OTHER_TYPES: readonly [name: string, magic: number[]][] = [
  ['gzip-compressed: unpack it first', [0x1f, 0x8b]],
  ['a zip archive: unpack it first', [0x50, 0x4b, 0x03, 0x04]],
  ['zstd-compressed: unpack it first', [0x28, 0xb5, 0x2f, 0xfd]],
  ['a Parquet file: export it as JSON Lines', [0x50, 0x41, 0x52, 0x31]],
  ['UTF-16 text: save it as UTF-8', [0xff, 0xfe]],
  ['UTF-16 text: save it as UTF-8', [0xfe, 0xff]],
]

/**
 * Any file → rows. The first byte that is not blank decides: "[" a JSON array, "{" JSON Lines. Throws FileFault; rows
 * before it have been handed on. The same rows come out however the file is cut into chunks.
 */
export class RowSplitter implements Splitter {
  #head: Buffer | null = Buffer.alloc(0)
  #inner: Splitter | null = null
  #line = 1
  /** Bytes before those that the inner splitter gets. */
  #offset = 0
  readonly #maxRowBytes: number
  container: 'array' | 'lines' | null = null
  byteOrderMark = false

  constructor(maxRowBytes = MAX_ROW_BYTES) {
    this.#maxRowBytes = maxRowBytes
  }

  push(chunk: Buffer, onRow: OnRow, plain?: PlainRows): void {
    if (this.#head) {
      const head = Buffer.concat([this.#head, chunk])
      if (head.length < HEAD_BYTES) this.#head = head
      else this.#begin(head, onRow, plain)
    } else this.#feed(chunk, onRow, plain)
  }

  end(onRow: OnRow): void {
    if (this.#head) this.#begin(this.#head, onRow)
    if (!this.#inner) throw new FileFault('empty_file', 'The file is empty: it must hold at least one row')
    this.#inner.end(onRow)
  }

  #begin(head: Buffer, onRow: OnRow, plain?: PlainRows): void {
    this.#head = null
    for (const [name, magic] of OTHER_TYPES)
      if (magic.every((byte, i) => head[i] === byte)) throw new FileFault('not_text', `The file is ${name}`)
    if (head.length >= 2 && (head[0] === 0) !== (head[1] === 0))
      throw new FileFault('not_text', 'The file looks like UTF-16 text or binary data: save it as UTF-8 text')
    this.byteOrderMark = head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf
    if (this.byteOrderMark) this.#offset = 3
    this.#feed(this.byteOrderMark ? head.subarray(3) : head, onRow, plain)
  }

  #feed(chunk: Buffer, onRow: OnRow, plain?: PlainRows): void {
    if (this.#inner) {
      this.#inner.push(chunk, onRow, plain)
      return
    }
    let at = 0
    for (; at < chunk.length && isBlank(chunk[at] as number); at++) if (chunk[at] === 0x0a) this.#line++
    if (at < chunk.length) this.#open(chunk, at, onRow, plain)
    else this.#offset += chunk.length
  }

  #open(chunk: Buffer, first: number, onRow: OnRow, plain?: PlainRows): void {
    let at = first
    const byte = chunk[at] as number
    if (byte === 0x5b) {
      this.container = 'array'
      at++
      this.#inner = new ArraySplitter(this.#line, this.#offset + at, this.#maxRowBytes)
    } else if (byte === 0x7b) {
      this.container = 'lines'
      this.#inner = new LineSplitter(this.#line, this.#offset + at, this.#maxRowBytes)
    } else
      throw new FileFault(
        'not_json',
        `The file starts with ${showByte(byte)}; it must start with "[" (a JSON array of rows) or "{" (JSON Lines: one row a line)`,
        this.#line,
      )
    this.#inner.push(chunk.subarray(at), onRow, plain)
  }
}

/** Whether a file of these first two bytes is read as a JSON array from its first byte on. */
export const startsArray = (head: Buffer) => head[0] === 0x5b && head[1] !== 0
/** Whether it is read as JSON Lines. */
export const startsLines = (head: Buffer) => head[0] === 0x7b && head[1] !== 0

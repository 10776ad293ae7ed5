import { FileFault } from './fault.ts'
import { Carry, isBlank, type OnRow, type PlainRows, type Splitter, showByte } from './row.ts'

const NEWLINE = 0x0a
const QUOTE = 0x22
const COMMA = 0x2c
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** Bytes that matter inside a string; all others are run over in a tight loop. */
const STOPS_STRING = new Uint8Array(256)
for (const byte of [NEWLINE, QUOTE, BACKSLASH]) STOPS_STRING[byte] = 1
/** Bytes that matter inside a row, outside strings. */
const STOPS_ROW = new Uint8Array(256)
for (const byte of [NEWLINE, QUOTE, OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE]) STOPS_ROW[byte] = 1

type State = 'first' | 'value' | 'row' | 'scalar' | 'after' | 'closed'

/** Of an array, what begins elsewhere than behind its bracket. */
export interface Part {
  /** Whether it begins with a row, of those behind the first. */
  isLater?: boolean
  /** No row that begins here or after it. */
  stopAt?: number
  /** What comes before, for messages of faults. */
  before?: { rows: number; lines: number }
}

/**
 * The elements of one JSON array, found by bracket depth and string state alone; JSON.parse of each then finds what is
 * wrong inside. Starts after the opening bracket. Never holds more than one element.
 */
export class ArraySplitter implements Splitter {
  #state: State
  #depth = 0
  #inString = false
  #escaped = false
  #line: number
  /** Of the chunk that is being read. */
  #offset: number
  #rowLine = 0
  #rowOffset = 0
  #rows = 0
  readonly #carry: Carry
  readonly #stopAt: number
  readonly #before: { rows: number; lines: number }
  /** Where the row begins that was not to be read; null until then. */
  next: number | null = null

  constructor(line: number, offset: number, maxRowBytes: number, part: Part = {}) {
    const { isLater = false, stopAt = Number.POSITIVE_INFINITY, before = { rows: 0, lines: 0 } } = part
    this.#state = isLater ? 'value' : 'first'
    this.#stopAt = stopAt
    this.#before = before
    this.#line = line
    this.#offset = offset
    this.#carry = new Carry(maxRowBytes)
  }

  push(chunk: Buffer, onRow: OnRow, plain?: PlainRows): void {
    plain?.enter(chunk)
    let at = 0
    while (at < chunk.length && this.next === null) {
      if (this.#state === 'row') at = this.#row(chunk, at, onRow)
      else if (this.#state === 'scalar') at = this.#scalar(chunk, at, onRow)
      else at = this.#between(chunk, at, plain)
    }
    this.#offset += chunk.length
  }

  end(): void {
    if (this.#state === 'closed') return
    const where =
      this.#state === 'row' || this.#state === 'scalar'
        ? `inside sample ${this.#sample}, which starts on line ${this.#rowLine + this.#before.lines}`
        : this.#sample === 0
          ? 'before the first row'
          : `after sample ${this.#sample - 1}`
    throw new FileFault(
      'truncated_array',
      `The file ends ${where}, without the closing "]" of the array: it was cut off`,
      this.#line,
    )
  }

  /** One byte between rows, or a plain row. Returns the index to go on from. */
  #between(chunk: Buffer, at: number, plain?: PlainRows): number {
    const byte = chunk[at] as number
    if (byte === NEWLINE) this.#line++
    if (isBlank(byte)) return at + 1
    const fault = (code: 'trailing_garbage' | 'trailing_comma' | 'bad_array', message: string) =>
      new FileFault(code, message, this.#line)
    if (this.#state === 'closed')
      throw fault('trailing_garbage', `After the closing "]" comes ${showByte(byte)}: a file holds one array only`)
    if (this.#state === 'after') {
      if (byte === CLOSE_BRACKET) this.#state = 'closed'
      else if (byte === COMMA) this.#state = 'value'
      else
        throw fault(
          'bad_array',
          `After sample ${this.#sample - 1} a "," or "]" is expected, not ${showByte(byte)}` +
            (byte === OPEN_BRACE ? ': a comma is missing between two rows' : ''),
        )
      return at + 1
    }
    if (byte === CLOSE_BRACKET) {
      if (this.#state === 'value') throw fault('trailing_comma', 'A comma comes before the closing "]": remove it')
      this.#state = 'closed'
      return at + 1
    }
    if (byte === COMMA) throw fault('bad_array', `A row is expected before this comma (sample ${this.#sample})`)
    if (this.#offset + at >= this.#stopAt) {
      this.next = this.#offset + at
      return at
    }
    const end = (byte === OPEN_BRACE && plain?.read(at, this.#line, this.#offset + at, false)) || 0
    if (end !== 0) {
      this.#line += plain?.lines ?? 0
      this.#state = 'after'
      this.#rows++
      return end
    }
    this.#rowLine = this.#line
    this.#rowOffset = this.#offset + at
    this.#state = byte === OPEN_BRACE || byte === OPEN_BRACKET || byte === QUOTE ? 'row' : 'scalar'
    return at
  }

  /** Line breaks seen so far, and the first line's number. */
  get line(): number {
    return this.#line
  }

  /** Of the next row, or of the one that is being read. */
  get #sample(): number {
    return this.#before.rows + this.#rows
  }

  /** An object, array or string, up to its end or the chunk's. */
  #row(chunk: Buffer, from: number, onRow: OnRow): number {
    const length = chunk.length
    let at = from
    while (at < length) {
      if (this.#escaped) {
        if (chunk[at] === NEWLINE) this.#line++
        this.#escaped = false
        at++
        continue
      }
      const stops = this.#inString ? STOPS_STRING : STOPS_ROW
      while (at < length && stops[chunk[at] as number] === 0) at++
      if (at === length) break
      const byte = chunk[at++] as number
      if (byte === NEWLINE) this.#line++
      else if (byte === BACKSLASH) this.#escaped = true
      else if (byte === QUOTE) this.#inString = !this.#inString
      else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) this.#depth++
      else this.#depth--
      if (this.#depth === 0 && !this.#inString && !this.#escaped && byte !== NEWLINE) {
        this.#emit(chunk, from, at, onRow)
        return at
      }
    }
    this.#carry.add(chunk.subarray(from))
    return length
  }

  /** A number, a word or rubbish, up to the next separator. */
  #scalar(chunk: Buffer, from: number, onRow: OnRow): number {
    let at = from
    for (; at < chunk.length; at++) {
      const byte = chunk[at] as number
      if (isBlank(byte) || byte === COMMA || byte === CLOSE_BRACKET) {
        this.#emit(chunk, from, at, onRow)
        return at
      }
    }
    this.#carry.add(chunk.subarray(from))
    return at
  }

  #emit(chunk: Buffer, start: number, end: number, onRow: OnRow): void {
    this.#state = 'after'
    this.#rows++
    onRow(this.#carry.take(chunk, start, end, this.#rowLine, this.#rowOffset, false))
  }
}

import { isUtf8 } from 'node:buffer'
import type { Code } from './codes.ts'
import { jsonProblem, utf8Problem } from './json-problem.ts'
import type { RawRow } from './split/row.ts'
import { AsciiBlocks } from './text/ascii.ts'
import { isObject, type JsonObject, plural, typeName } from './words.ts'

/** Shorter rows can't hold so much that parsing them takes memory to speak of. */
const SMALL_ROW = 64 * 1024
/** JSON.parse takes what is nested deeper, but much of what reads its result does not. */
const MAX_DEPTH = 1000
/** Each object or array takes up to 64 bytes of memory, and three of the file. */
const MAX_BRACKETS = 1_000_000

export class RowProblem extends Error {
  readonly code: Code

  constructor(code: Code, message: string) {
    super(message)
    this.code = code
  }
}

/** Bytes of a row → object. Rows come in the order of the file. */
export class RowParser {
  readonly #maxRowBytes: number
  readonly #expected: string
  readonly #ascii = new AsciiBlocks()

  constructor(maxRowBytes: number, expected: string) {
    this.#maxRowBytes = maxRowBytes
    this.#expected = expected
  }

  /** The rows of another chunk follow. */
  nextChunk(chunk: Buffer): void {
    this.#ascii.begin(chunk)
  }

  /** Throws RowProblem, or SyntaxError of JSON.parse. */
  parse(row: RawRow): JsonObject {
    const { chunk, start, end } = row
    if (chunk === null)
      throw new RowProblem('row_too_large', `The row is longer than ${plural(this.#maxRowBytes, 'byte')}`)
    const text = this.#text(chunk, start, end)
    if (end - start > SMALL_ROW) checkNesting(chunk, start, end)
    const value: unknown = parsed(text, row)
    if (isObject(value)) return value
    throw new RowProblem('not_an_object', `The row is ${typeName(value)}, not an object; ${this.#expected}`)
  }

  /** Of the row's bytes. Throws RowProblem. */
  #text(chunk: Buffer, start: number, end: number): string {
    if (this.#ascii.covers(chunk, start, end)) return chunk.toString('latin1', start, end)
    const bytes = chunk.subarray(start, end)
    if (!isUtf8(bytes)) throw new RowProblem('invalid_utf8', utf8Problem(bytes))
    return chunk.toString('utf8', start, end)
  }
}

export class InvalidJson extends RowProblem {
  readonly text: string

  constructor(message: string, text: string) {
    super('invalid_json', message)
    this.text = text
  }
}

function parsed(text: string, row: RawRow): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new InvalidJson(jsonProblem(error, text, row), text)
  }
}

/** By brackets outside of strings, before anything is made of them. */
function checkNesting(chunk: Buffer, start: number, end: number): void {
  let depth = 0
  let brackets = 0
  let inString = false
  for (let at = start; at < end; at++) {
    const byte = chunk[at]
    if (byte === 0x22) inString = !inString
    else if (inString) {
      if (byte === 0x5c) at++
    } else if (byte === 0x5b || byte === 0x7b) {
      brackets++
      if (++depth > MAX_DEPTH)
        throw new RowProblem('nested_too_deep', `The row is nested deeper than ${MAX_DEPTH} levels`)
      if (brackets > MAX_BRACKETS)
        throw new RowProblem('row_too_large', `The row holds more than ${MAX_BRACKETS} objects and arrays`)
    } else if (byte === 0x5d || byte === 0x7d) depth--
  }
}

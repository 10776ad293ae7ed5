/** readRange: the rows that begin in a range of bytes, so that several threads share a file. */
import fs from 'node:fs'
import type { Reading } from '../formats/index.ts'
import { RowReader } from '../row-reader.ts'
import { ArraySplitter } from '../split/array.ts'
import { FileFault } from '../split/fault.ts'
import { LineSplitter } from '../split/lines.ts'
import type { RawRow } from '../split/row.ts'
import { Tally } from '../tally.ts'
import { type Boundary, guess } from './boundary.ts'

const CHUNK_BYTES = 1024 * 1024
const NEWLINE = 0x0a

export interface Range {
  /** The first byte of it, and the first after it. */
  from: number
  to: number
}

export interface RangeTally {
  /** Where the reading began, and where the next row begins, or the file ends; of an array the first is a guess. */
  start: number
  next: number
  tally: Tally
  /** Line breaks in it. */
  lines: number
  fault: { code: FileFault['code']; message: string; line: number | null } | null
}

/** A file that is open and does not change meanwhile, and how it is read. */
export interface Shared {
  fd: number
  size: number
  reading: Reading
  maxRowBytes: number
  /** Between the rows of an array; null for JSON Lines. */
  boundary: Boundary | null
}

/**
 * Ranges that lie side by side have each row in exactly one of them, if each begins where the one before says. Samples and
 * lines of the tally count from the range's first; offsets are those of the file. Synchronous.
 */
export function readRange(shared: Shared, range: Range): RangeTally {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  const { boundary } = shared
  if (!boundary) return readLines(shared, range, buffer)
  // Behind the bracket, which is the file's first byte.
  const start = range.from === 0 ? 1 : guess(shared.fd, boundary, range.from, range.to, buffer)
  return start === null
    ? { start: -1, next: -1, tally: new Tally(), lines: 0, fault: null }
    : readElements(shared, start, range.to, undefined, buffer)
}

/** The same of an array when it is known where it begins, and what is before it: a fault names sample and line. */
export const readAgain = (shared: Shared, start: number, to: number, before: { rows: number; lines: number }) =>
  readElements(shared, start, to, before, Buffer.allocUnsafe(CHUNK_BYTES))

function readElements(
  { fd, size, reading, maxRowBytes }: Shared,
  start: number,
  to: number,
  before: { rows: number; lines: number } | undefined,
  buffer: Buffer,
): RangeTally {
  const tally = new Tally()
  const part = { isLater: start > 1, stopAt: to, ...(before && { before }) }
  const splitter = new ArraySplitter(1, start, maxRowBytes, part)
  const reader = new RowReader(tally, reading, maxRowBytes)
  const onRow = (row: RawRow) => reader.read(row)
  const fault = faultOf(() => {
    for (let at = start; at < size && splitter.next === null; ) {
      const chunk = readAt(fd, buffer, at, size)
      reader.nextChunk(chunk)
      splitter.push(chunk, onRow, reader.plain)
      at += chunk.length
    }
    if (splitter.next === null) splitter.end()
  })
  return { start, next: splitter.next ?? size, tally, lines: splitter.line - 1, fault }
}

function readLines({ fd, size, reading, maxRowBytes }: Shared, { from, to }: Range, buffer: Buffer): RangeTally {
  const start = lineFrom(fd, size, from, buffer)
  const tally = new Tally()
  const splitter = new LineSplitter(1, start, maxRowBytes)
  const reader = new RowReader(tally, reading, maxRowBytes)
  const onRow = (row: RawRow) => reader.read(row, from === 0 && tally.rows === 0)
  let at = start
  const fault = faultOf(() => {
    let ended = false
    while (at < size && !ended && (at < to || at > start)) {
      const chunk = readAt(fd, buffer, at, size)
      // The last line is the one that holds the last byte of the range.
      const last = at + chunk.length < to ? -1 : chunk.indexOf(NEWLINE, Math.max(0, to - 1 - at))
      ended = last !== -1
      const bytes = ended ? chunk.subarray(0, last + 1) : chunk
      reader.nextChunk(bytes)
      splitter.push(bytes, onRow, reader.plain)
      at += bytes.length
    }
    splitter.end(onRow)
  })
  return { start, next: at, tally, lines: splitter.line - 1, fault }
}

function faultOf(read: () => void): RangeTally['fault'] {
  try {
    read()
    return null
  } catch (error) {
    if (!(error instanceof FileFault)) throw error
    return { code: error.code, message: error.message, line: error.line }
  }
}

/** Where the first line begins that begins at `from` or after it. */
function lineFrom(fd: number, size: number, from: number, buffer: Buffer): number {
  if (from === 0) return 0
  for (let at = from - 1; at < size; at += buffer.length) {
    const found = readAt(fd, buffer, at, size).indexOf(NEWLINE)
    if (found !== -1) return at + found + 1
  }
  return size
}

function readAt(fd: number, buffer: Buffer, at: number, size: number): Buffer {
  const wanted = Math.min(buffer.length, size - at)
  const read = fs.readSync(fd, buffer, 0, wanted, at)
  if (read === 0)
    throw new FileFault('file_changed', 'The file changed while it was read: try again when nothing writes to it')
  return buffer.subarray(0, read)
}

/** readRange: the lines of JSON Lines that begin in a range of bytes, so that several threads share a file. */
import fs from 'node:fs'
import type { Reading } from '../formats/index.ts'
import { RowReader } from '../row-reader.ts'
import { FileFault } from '../split/fault.ts'
import { LineSplitter } from '../split/lines.ts'
import type { RawRow } from '../split/row.ts'
import { Tally } from '../tally.ts'

const CHUNK_BYTES = 1024 * 1024
const NEWLINE = 0x0a

export interface Range {
  /** The first byte of it, and the first after it. */
  from: number
  to: number
}

export interface RangeTally {
  tally: Tally
  /** Line breaks in it. */
  lines: number
  fault: { code: FileFault['code']; message: string; line: number | null } | null
}

/**
 * Ranges that lie side by side have each line in exactly one of them. Samples and lines of the tally count from the range's
 * first; offsets are those of the file. `size`: of the file, which must not change. Synchronous.
 */
export function readRange(
  fd: number,
  size: number,
  { from, to }: Range,
  reading: Reading,
  maxRowBytes: number,
): RangeTally {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  const start = lineFrom(fd, size, from, buffer)
  const tally = new Tally()
  const splitter = new LineSplitter(1, start, maxRowBytes)
  const reader = new RowReader(tally, reading, maxRowBytes)
  const onRow = (row: RawRow) => reader.read(row, from === 0 && tally.rows === 0)
  let fault: RangeTally['fault'] = null
  try {
    let at = start
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
  } catch (error) {
    if (!(error instanceof FileFault)) throw error
    fault = { code: error.code, message: error.message, line: error.line }
  }
  return { tally, lines: splitter.line - 1, fault }
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

/** Where rows of an array begin, guessed from how the second one does: so that several threads may share the file. */
import fs from 'node:fs'
import { ArraySplitter } from '../split/array.ts'
import { FileFault } from '../split/fault.ts'
import { MAX_ROW_BYTES } from '../split/row.ts'

/** What stands between two rows: the end of the first to the first key of the second. */
export interface Boundary {
  bytes: Uint8Array
  /** The second row's place in it. */
  row: number
}

/**
 * Of an array's first bytes; null when there aren't two objects in them. With the whole first key in it, nearly nothing but a
 * boundary looks like it: in a string its quotes would have backslashes. Nearly: whoever guesses must check.
 */
export function boundaryOf(head: Buffer): Boundary | null {
  const rows: { start: number; end: number }[] = []
  try {
    new ArraySplitter(1, 1, MAX_ROW_BYTES).push(head.subarray(1), ({ offset, bytes }) => {
      rows.push({ start: offset, end: offset + (bytes?.length ?? 0) })
    })
  } catch (error) {
    if (!(error instanceof FileFault)) throw error
  }
  const [first, second] = rows
  if (!first || !second) return null
  const key = /^\{\s*"[^"\\]+"/.exec(head.toString('latin1', second.start, second.end))
  if (!key || head[first.end - 1] !== 0x7d) return null
  const start = first.end - 1
  return { bytes: Uint8Array.from(head.subarray(start, second.start + key[0].length)), row: second.start - start }
}

/** The first place from `from` on and before `to` where a row seems to begin; null for none. */
export function guess(fd: number, { bytes, row }: Boundary, from: number, to: number, buffer: Buffer): number | null {
  for (let at = Math.max(0, from - row); at + row < to; at += buffer.length - bytes.length) {
    const read = fs.readSync(fd, buffer, 0, buffer.length, at)
    const found = buffer.subarray(0, read).indexOf(bytes)
    if (found !== -1) return at + found + row < to ? at + found + row : null
    if (read < buffer.length) return null
  }
  return null
}

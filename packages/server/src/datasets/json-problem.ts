import type { RawRow } from './split/row.ts'
import { plural, quote } from './words.ts'

/** JSON.parse's complaint with the line and column in the file; its wording differs between Node versions, the place does not. */
export function jsonProblem(error: unknown, text: string, row: RawRow): string {
  const said = error instanceof Error ? error.message : String(error)
  const position = /at position (\d+)/.exec(said)?.[1]
  const what =
    /^Unexpected token ('.'|.)/su.exec(said)?.[0] ??
    said.replace(/ in JSON at position.*| after JSON at position.*| at position.*/s, '')
  const before = position === undefined ? null : text.slice(0, Number(position))
  const line = row.line + (before?.split('\n').length ?? 1) - 1
  const column = before === null ? null : before.length - before.lastIndexOf('\n')
  const hint = row.unfinished
    ? '; the file may have been cut off here'
    : /,\s*$/.test(text)
      ? '; JSON Lines has no comma at the end of a line'
      : ''
  return `Not valid JSON: ${what}${column === null ? '' : ` at line ${line}, column ${column}`}${hint}`
}

/** Where a row stops being UTF-8. */
export function utf8Problem(bytes: Buffer): string {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
  let offset = 0
  let from = 0
  // Each decoding error became U+FFFD; one that the user wrote is the three bytes EF BF BD and not an error.
  for (let at = text.indexOf('\ufffd'); at !== -1; at = text.indexOf('\ufffd', from)) {
    offset += Buffer.byteLength(text.slice(from, at))
    if (bytes.toString('latin1', offset, offset + 3) !== '\xef\xbf\xbd') break
    offset += 3
    from = at + 1
  }
  const byte = (bytes[offset] as number).toString(16).toUpperCase()
  const context = bytes.toString('latin1', Math.max(0, offset - 12), offset).replace(/[^\x20-\x7e]/g, '·')
  return `Not valid UTF-8: byte 0x${byte} after ${quote(context)} (${plural(offset, 'byte')} into the row); save the file as UTF-8`
}

/** Where output goes: results to stdout, the rest to stderr. */
import { stripVTControlCharacters } from 'node:util'
import Table from 'cli-table3'
import pc from './colours.ts'

/** A reader that is gone (`| head`) is no error. */
export function allowBrokenPipes(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      if (stream === process.stdout) process.stderr.write(`The output can't be written: ${error.message}\n`)
      process.exit(7)
    })
}

export const say = (line = '') => void process.stdout.write(`${line}\n`)
export const note = (line: string) => void process.stderr.write(`${line}\n`)
export const asJson = (value: unknown) => say(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined))

/** Characters of a line; a pipe gets as many as a usual terminal has. */
export const width = () => process.stdout.columns || 80

const NO_BORDERS = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '  ',
}

const GAP = 2

/**
 * Columns of texts; those whose numbers are in `right` end at the same place. What the line has no room for is wrapped
 * between words in the widest column.
 */
export function table(head: string[], rows: string[][], right: number[] = []): string {
  const widths = head.map((title, column) => Math.max(...[title, ...rows.map((row) => row[column] ?? '')].map(visible)))
  const widest = widths.indexOf(Math.max(...widths))
  const others = widths.reduce((sum, one) => sum + one + GAP, -GAP) - (widths[widest] ?? 0)
  widths[widest] = Math.max(10, Math.min(widths[widest] ?? 0, width() - others))
  const made = new Table({
    head: head.map((title) => pc.bold(title)),
    chars: NO_BORDERS,
    colWidths: widths,
    wordWrap: true,
    // A path that has no room in a line must not be shortened: it is broken where the line ends.
    wrapOnWordBoundary: rows.every((row) => longestWord(row[widest] ?? '') <= (widths[widest] ?? 0)),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: head.map((_, column) => (right.includes(column) ? 'right' : 'left')),
  })
  made.push(...rows)
  return made
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

/** `label  value` lines. */
export function pairs(entries: (readonly [string, string] | null)[]): string {
  const given = entries.filter((entry) => entry !== null)
  const longest = Math.max(...given.map(([label]) => label.length))
  const lines = given.map(([label, value]) =>
    table(['', ''], [[pc.dim(label.padEnd(longest)), value]])
      .split('\n')
      .slice(1),
  )
  return lines.flat().join('\n')
}

const longestWord = (text: string) => Math.max(...text.split(/\s/).map(visible))
const visible = (text: string) => stripVTControlCharacters(text).length

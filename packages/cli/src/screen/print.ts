/** Where output goes: results to stdout, the rest to stderr. */
import { stripVTControlCharacters } from 'node:util'
import Table from 'cli-table3'
import wrapAnsi from 'wrap-ansi'
import { EXIT } from '../exit.ts'
import pc from './colours.ts'

/** A reader that is gone (`| head`) is no error; `fail` tells others, and the status to end with. */
export function allowBrokenPipes(fail: (problem: string) => number): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      process.exit(stream === process.stdout ? fail(`The output can't be written: ${error.message}`) : EXIT.server)
    })
}

export const say = (line = '') => void process.stdout.write(`${line}\n`)
export const note = (line: string) => void process.stderr.write(`${line}\n`)
export const asJson = (value: unknown) => say(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined))

/** Characters of a line; a pipe gets whole lines, for grep and awk. */
export const width = () => (process.stdout.isTTY ? process.stdout.columns || 80 : Number.POSITIVE_INFINITY)

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
/** What columns are made narrower to, first and at last: the first, which names the row, and the others. A time has 16. */
const LEAST = [
  [30, 16],
  [30, 10],
  [10, 10],
] as const

/**
 * Columns of texts; those whose numbers are in `right` end at the same place. What the line has no room for is wrapped,
 * between words where there are some, in the widest columns; plain texts of the columns in `cut` end with … instead.
 */
export function table(
  head: string[],
  rows: string[][],
  right: number[] = [],
  room = width(),
  cut: number[] = [],
): string {
  const widths = head.map((title, column) => Math.max(...[title, ...rows.map((row) => row[column] ?? '')].map(visible)))
  fit(widths, room)
  const fitted = (text: string, column: number) => {
    const places = widths[column] ?? 0
    return cut.includes(column) ? shortened(text, places) : wrapAnsi(text, places, { hard: true })
  }
  const wrapped = (row: string[]) => row.map(fitted)
  const made = new Table({
    head: head.map((title, column) => wrapAnsi(pc.bold(title), widths[column] ?? 0, { hard: true })),
    chars: NO_BORDERS,
    colWidths: widths,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: head.map((_, column) => (right.includes(column) ? 'right' : 'left')),
  })
  made.push(...rows.map(wrapped))
  return made
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

function shortened(text: string, places: number): string {
  if (visible(text) <= places) return text
  const kept = [...text]
  while (visible(kept.join('')) >= places) kept.pop()
  return `${kept.join('')}…`
}

/** Takes from the widest of those that may become narrower until the line holds all. */
function fit(widths: number[], room: number): void {
  let over = widths.reduce((sum, one) => sum + one + GAP, -GAP) - room
  for (const [name, other] of LEAST)
    for (; over > 0; over--) {
      const spare = widths.map((one, column) => (one > (column === 0 ? name : other) ? one : 0))
      const widest = spare.indexOf(Math.max(...spare))
      if (spare[widest] === 0) break
      widths[widest] = (widths[widest] ?? 0) - 1
    }
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

/** A text that begins with a mark, its further lines under its first word; as it is where nobody looks. */
export function marked(mark: string, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  if (!stream.isTTY) return `${mark} ${text}`
  const indent = visible(mark) + 1
  const lines = wrapAnsi(text, Math.max(10, (stream.columns || 80) - indent), { hard: true }).split('\n')
  return `${mark} ${lines.join(`\n${' '.repeat(indent)}`)}`
}

export const warning = (text: string) => pc.yellow(marked('•', text))

/** What others wrote, models too, may not steer the terminal that it is shown on. */
export const harmless = (text: string, stream: NodeJS.WriteStream = process.stdout) =>
  stream.isTTY ? text.replace(CONTROL, '\ufffd') : text
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g

/** Places on the line: two for a character of East Asia, or an emoji. */
const visible = (text: string) => {
  const plain = stripVTControlCharacters(text)
  return [...plain].length + (plain.match(WIDE)?.length ?? 0)
}
const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\uff01-\uff60]/gu

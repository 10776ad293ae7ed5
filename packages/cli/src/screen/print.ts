/** Where output goes: results to stdout, the rest to stderr. */
import Table from 'cli-table3'
import pc from 'picocolors'

/** A reader that is gone (`| head`) is no error. */
export function allowBrokenPipes(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      throw error
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

/** Columns of texts; those whose numbers are in `right` end at the same place. */
export function table(head: string[], rows: string[][], right: number[] = []): string {
  const made = new Table({
    head: head.map((title) => pc.bold(title)),
    chars: NO_BORDERS,
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
  return given.map(([label, value]) => `${pc.dim(label.padEnd(longest))}  ${value}`).join('\n')
}

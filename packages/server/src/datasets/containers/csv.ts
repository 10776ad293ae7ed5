import { CsvError, type Info, parse } from 'csv-parse'
import { FileFault } from '../split/fault.ts'
import { MAX_ROW_BYTES } from '../split/row.ts'
import { plural, quote } from '../words.ts'
import { Lines } from './json-text.ts'
import { LineCounter } from './line-counter.ts'
import { checkedUtf8 } from './utf8.ts'

/** Columns whose cells hold JSON: a table has no other way to hold a list. */
const STRUCTURED = new Set(['conversations', 'messages', 'tools', 'history'])
/** Longer names are the cells of a row that stands where the header should. */
const MAX_NAME = 100

/**
 * A table with a header → JSON Lines, one object a row, cells as text. Each row stands on the line on which it begins in
 * the table, so that line numbers hold. Quotes as in RFC 4180; blank lines are passed over. Throws FileFault, after the
 * rows before it.
 */
export async function* csvToLines(
  chunks: AsyncIterable<Buffer>,
  delimiter: string | null = null,
  maxRecordBytes = MAX_ROW_BYTES,
): AsyncGenerator<Buffer> {
  const [first, whole] = await withHeader(checkedUtf8(chunks))
  const table = new Table()
  const parser = parse({
    delimiter: delimiter ?? delimiterOf(first),
    bom: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: maxRecordBytes,
    // Rows are taken here: those in the stream's own buffer are lost when a later one of the same chunk is wrong.
    on_record: (record: string[], info) => table.row(record, info),
  })
  parser.on('error', () => {})
  try {
    for await (const chunk of whole) {
      table.lines.add(chunk)
      const error = await new Promise((done) => parser.write(chunk, done))
      const bytes = table.text.take(Boolean(error))
      if (bytes) yield bytes
      if (error) throw table.faultOf(error)
    }
    const error = await new Promise((done) => parser.end(done))
    const bytes = table.text.take(true)
    if (bytes) yield bytes
    if (error) throw table.faultOf(error)
    table.checkRows()
  } finally {
    parser.destroy()
  }
}

class Table {
  readonly lines = new LineCounter()
  readonly text = new Lines()
  #header: string[] | null = null
  #outLine = 1
  #emptyLines = 0

  /** Takes the next record. null: nothing of it goes on through the parser's stream. */
  row(record: string[], { bytes_records, empty_lines }: Info): null {
    const line = this.#startOf(empty_lines)
    this.#emptyLines = empty_lines
    this.lines.advance(bytes_records)
    if (this.#header) {
      this.text.add(`${'\n'.repeat(line - this.#outLine)}${objectOf(this.#header, record, line)}\n`)
      this.#outLine = line + 1
    } else this.#header = checkedHeader(record, line)
    return null
  }

  /** The line on which the next record begins, when so many empty ones have been passed over in all. */
  #startOf(emptyLines: number): number {
    return this.lines.line + emptyLines - this.#emptyLines
  }

  checkRows(): void {
    if (this.#header && this.#outLine === 1)
      throw new FileFault('no_rows', 'The file has a header and no rows below it')
  }

  faultOf(error: unknown): unknown {
    if (!(error instanceof CsvError)) return error
    const emptyLines = Number((error as CsvError & Partial<Info>).empty_lines ?? this.#emptyLines)
    const fault = (code: 'bad_csv' | 'row_too_large', message: string) =>
      new FileFault(code, message, this.#startOf(emptyLines))
    switch (error.code) {
      case 'CSV_QUOTE_NOT_CLOSED':
        return fault('bad_csv', 'A double quote opens in the row and is never closed')
      case 'INVALID_OPENING_QUOTE':
        return fault(
          'bad_csv',
          'A double quote inside a cell that does not begin with one: quote the whole cell and double the quotes in it',
        )
      case 'CSV_INVALID_CLOSING_QUOTE':
        return fault(
          'bad_csv',
          'A cell goes on after its closing double quote: quotes inside a quoted cell must be doubled',
        )
      case 'CSV_MAX_RECORD_SIZE':
        return fault('row_too_large', 'The row is too long to be held, unless a double quote in it was never closed')
      default:
        return fault('bad_csv', error.message)
    }
  }
}

/** Enough of the beginning to hold the header, and all of it again. */
async function withHeader(chunks: AsyncGenerator<Buffer>): Promise<[Buffer, AsyncIterable<Buffer>]> {
  let head: Buffer = Buffer.alloc(0)
  while (!/[\r\n]/.test(head.toString('latin1').trimStart()) && head.length < MAX_ROW_BYTES) {
    const { value, done } = await chunks.next()
    if (done) break
    head = Buffer.concat([head, value])
  }
  return [
    head,
    (async function* () {
      if (head.length > 0) yield head
      yield* chunks
    })(),
  ]
}

/** The one that divides the header most often. A tie goes to the comma, then the first of the others. */
function delimiterOf(head: Buffer): string {
  const header =
    head
      .toString('utf8')
      .trimStart()
      .split(/[\r\n]/, 1)[0] ?? ''
  const unquoted = header.replace(/"[^"]*"/g, '')
  const counts = [',', ';', '\t', '|'].map((delimiter) => [delimiter, unquoted.split(delimiter).length] as const)
  return counts.reduce((best, each) => (each[1] > best[1] ? each : best))[0]
}

function checkedHeader(names: string[], line: number): string[] {
  const bad = (why: string) =>
    new FileFault('no_header', `${why}: the first line must name the columns, e.g. instruction,input,output`, line)
  const header = names.map((name) => name.trim())
  const empty = header.indexOf('')
  if (empty !== -1) throw bad(`Column ${empty + 1} has no name`)
  const long = header.find((name) => name.length > MAX_NAME || /[\r\n]/.test(name))
  if (long !== undefined) throw bad(`The first line looks like a row, not like a header (${quote(long)})`)
  const twice = header.find((name, i) => header.indexOf(name) !== i)
  if (twice !== undefined) throw bad(`The first line names ${quote(twice)} twice`)
  return header
}

function objectOf(header: string[], record: string[], line: number): string {
  if (record.length !== header.length)
    throw new FileFault(
      'ragged_row',
      `The row has ${plural(record.length, 'cell')}, but the header names ${plural(header.length, 'column')} ` +
        `(${header.slice(0, 8).join(', ')}${header.length > 8 ? ', …' : ''}): ` +
        'put cells that hold the delimiter, quotes or line breaks in double quotes',
      line,
    )
  const members = header.map((name, i) => {
    const cell = record[i] as string
    return `${JSON.stringify(name)}:${STRUCTURED.has(name) ? structured(cell) : JSON.stringify(cell)}`
  })
  return `{${members.join(',')}}`
}

/** A cell of JSON as it stands; an empty one is nothing; other text stays text, whose type the format then explains. */
function structured(cell: string): string {
  if (cell.trim() === '') return 'null'
  try {
    // Written anew, because line breaks between its tokens would end the row.
    return JSON.stringify(JSON.parse(cell))
  } catch {
    return JSON.stringify(cell)
  }
}

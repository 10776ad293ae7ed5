import { isUtf8 } from 'node:buffer'
import type { DatasetFormat, ValidateResponse } from '@mlx-training/contract'
import { Duplicates } from './checks/duplicates.ts'
import { checkRaw } from './checks/raw.ts'
import { checkTurns } from './checks/turns.ts'
import { Findings } from './findings.ts'
import type { Conversation, Format } from './formats/format.ts'
import { EXPECTED, explainUnknown, FORMATS } from './formats/index.ts'
import { jsonProblem, utf8Problem } from './json-problem.ts'
import { RowContext } from './row-context.ts'
import { FileFault } from './split/fault.ts'
import { MAX_ROW_BYTES, type RawRow } from './split/row.ts'
import { RowSplitter } from './split/rows.ts'
import { isObject, type JsonObject, plural, typeName } from './words.ts'

/** OpenAI's minimum; below it a run learns the rows by heart. */
const FEW_ROWS = 10

export interface PassOptions {
  /** Of the whole file, in bytes. */
  size: number
  /** The format that the user asked for. */
  asked?: DatasetFormat | undefined
  maxRowBytes?: number
  /** Rows remembered in the search for duplicates. */
  maxSeen?: number
  /** Called with every row that has no error. */
  onGood?: (row: Conversation, sample: number) => void
}

/** One pass over a file: rows come in as chunks of bytes, the report is ready at the end. Synchronous; keeps no rows. */
export class Pass {
  readonly #options: PassOptions
  readonly #splitter: RowSplitter
  readonly #findings = new Findings()
  readonly #duplicates: Duplicates
  readonly #rowsOf = new Map<Format, { count: number; first: { sample: number; line: number } }>()
  #total = 0
  #good = 0
  #preview: JsonObject | null = null

  constructor(options: PassOptions) {
    this.#options = options
    this.#splitter = new RowSplitter(options.maxRowBytes)
    this.#duplicates = new Duplicates(options.maxSeen)
  }

  push(chunk: Buffer): void {
    this.#splitter.push(chunk, this.#row)
  }

  /** `fault`: why reading ended before the file did. */
  end(fault?: FileFault): ValidateResponse {
    try {
      if (fault) throw fault
      this.#splitter.end(this.#row)
    } catch (error) {
      if (!(error instanceof FileFault)) throw error
      this.#findings.add(error.code, error.message, { sample: null, line: error.line, field: null })
    }
    return this.#report()
  }

  get hasErrors(): boolean {
    return this.#good < this.#total
  }

  readonly #row = (raw: RawRow): void => {
    const context = new RowContext(this.#findings, this.#total, raw.line)
    const row = this.#parse(raw, context)
    this.#total++
    if (row === null) return
    const format = FORMATS.find((each) => each.recognises(row))
    if (!format) {
      context.find('unknown_format', explainUnknown(row))
      return
    }
    this.#countRow(format, context)
    const conversation = format.read(row, context)
    if (conversation) {
      if (conversation.raw) checkRaw(conversation.raw, format.name, context)
      else checkTurns(conversation, context)
      this.#duplicates.check(conversation, context)
    }
    if (!conversation || context.failed) return
    this.#good++
    this.#preview ??= format.preview(row)
    this.#options.onGood?.(conversation, context.sample)
  }

  #parse(raw: RawRow, context: RowContext): JsonObject | null {
    const { bytes } = raw
    if (bytes === null) {
      const limit = this.#options.maxRowBytes ?? MAX_ROW_BYTES
      context.find('row_too_large', `The row is longer than ${plural(limit, 'byte')}`)
      return null
    }
    if (!isUtf8(bytes)) {
      context.find('invalid_utf8', utf8Problem(bytes))
      return null
    }
    const text = bytes.toString('utf8')
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch (error) {
      if (this.#total === 0 && this.#splitter.container === 'lines' && startsObject(text))
        throw new FileFault(
          'single_object',
          'The file is one JSON object over several lines; it must be an array of rows, [{…}, {…}], or JSON Lines with one row a line',
          raw.line,
        )
      context.find('invalid_json', jsonProblem(error, text, raw))
      return null
    }
    if (isObject(value)) return value
    context.find('not_an_object', `The row is ${typeName(value)}, not an object; ${EXPECTED}`)
    return null
  }

  #countRow(format: Format, { sample, line }: RowContext): void {
    const seen = this.#rowsOf.get(format)
    if (seen) seen.count++
    else this.#rowsOf.set(format, { count: 1, first: { sample, line } })
  }

  #report(): ValidateResponse {
    const { asked } = this.#options
    const names = new Set([...this.#rowsOf.keys()].map(({ name }) => (isKind(name, asked) ? asked : name)))
    const format = names.size === 1 ? ([...names][0] as DatasetFormat) : null
    const wholeFile = { sample: null, line: null, field: null }
    if (names.size > 1) {
      const parts = [...this.#rowsOf].map(
        ([{ name, traits }, { count, first }]) =>
          `${plural(count, 'row')} of ${name} (${traits}; the first is sample ${first.sample}, line ${first.line})`,
      )
      this.#findings.add(
        'mixed_formats',
        `The file mixes formats: ${parts.join(' and ')}. One file, one format`,
        wholeFile,
      )
    }
    if (asked && format && asked !== format)
      this.#findings.add(
        'format_mismatch',
        `The format asked for is ${asked}, but this is ${format}: ${this.#detection()}. Ask for ${format}, or leave the format out`,
        wholeFile,
      )
    if (this.#total === 0 && this.#findings.list('error').length === 0)
      this.#findings.add('no_rows', 'The file holds no rows', wholeFile)
    else if (this.#total > 0 && this.#total < FEW_ROWS)
      this.#findings.add('few_rows', `Only ${plural(this.#total, 'row')}: a model needs more to learn from`, wholeFile)
    if (this.#splitter.byteOrderMark)
      this.#findings.add('byte_order_mark', 'The file starts with a byte order mark, which was skipped', wholeFile)
    if (this.#duplicates.incomplete)
      this.#findings.add('duplicates_unchecked', 'Too many rows to look for duplicates among all of them', wholeFile)
    const errors = this.#findings.list('error')
    return {
      valid: errors.length === 0,
      format,
      total_samples: this.#total,
      errors,
      warnings: this.#findings.list('warning'),
      sample_preview: this.#preview,
      detection: this.#detection(),
      issues: this.#findings.issues,
      counts: this.#findings.counts,
      valid_samples: this.#good,
      size_bytes: this.#options.size,
    }
  }

  /** What decided on the format, in words. */
  #detection(): string {
    if (this.#rowsOf.size === 0) return `No row has the keys of a known format; ${EXPECTED}`
    const container = this.#splitter.container === 'array' ? 'a JSON array' : 'JSON Lines'
    const parts = [...this.#rowsOf].map(([{ traits }, { count }]) => `${count} of ${this.#total} rows have ${traits}`)
    return `${parts.join(', ')}; the file is ${container}`
  }
}

/** Who asks for ShareGPT gets OpenAI's messages as well: their turns are the same in other words. */
function isKind(found: DatasetFormat, asked: DatasetFormat | undefined): asked is DatasetFormat {
  return found === asked || (asked === 'sharegpt' && found === 'openai')
}

/** A first line that ends inside its object, as pretty-printed JSON does: "{" or "{…," but not "{…},". */
function startsObject(line: string): boolean {
  if (!/[{[,]\s*$/.test(line)) return false
  try {
    JSON.parse(line.replace(/,\s*$/, ''))
    return false
  } catch {
    return true
  }
}

/** Runs a pass over chunks; `afterChunk` is where a writer gets its turn. */
export async function runPass(
  chunks: AsyncIterable<Buffer>,
  pass: Pass,
  afterChunk: () => Promise<void> = async () => {},
): Promise<ValidateResponse> {
  try {
    for await (const chunk of chunks) {
      pass.push(chunk)
      await afterChunk()
    }
  } catch (error) {
    if (error instanceof FileFault) return pass.end(error)
    throw error
  }
  return pass.end()
}

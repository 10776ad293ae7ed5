/** examine: one row, as the report's pass sees it. */
import type { DatasetIssue } from '@mlx-training/contract'
import type { Conversation } from '../formats/format.ts'
import { readingOf } from '../formats/index.ts'
import { Pass } from '../pass.ts'
import type { ReadOptions } from '../port.ts'
import { RowReader } from '../row-reader.ts'
import { MAX_ROW_BYTES, RawRow } from '../split/row.ts'
import { Tally } from '../tally.ts'

/** A row by itself: what it becomes (null when it has errors) and what is found in it. */
export interface Examined {
  conversation: Conversation | null
  issues: DatasetIssue[]
}

/** `inArray`: an element of a JSON array, whose syntax is another than that of a line. `line`: where it is, for messages. */
export function examine(
  bytes: Buffer,
  sample: number,
  line: number,
  { format: asked, columns, tags }: ReadOptions,
  inArray = false,
): Examined {
  let conversation: Conversation | null = null
  const pass = new Pass({
    asked,
    columns,
    tags,
    size: bytes.length,
    onGood: (row) => {
      conversation = row
    },
  })
  // A row stands before it, so that the pass takes it as one of many. Where a row is no JSON the message says on which line
  // and in which column, so that as many line breaks stand before it.
  const breaks = isJson(bytes) ? '' : '\n'.repeat(Math.max(0, line - (inArray ? 1 : 2)))
  pass.push(Buffer.from(inArray ? `[{},${breaks}` : `{}\n${breaks}`))
  pass.push(bytes)
  pass.push(Buffer.from(inArray ? ']' : '\n'))
  const issues = pass.end().issues.filter((issue) => issue.sample === 1)
  return { conversation, issues: issues.map((issue) => ({ ...issue, sample, line, offset: null })) }
}

function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(bytes.toString('utf8'))
    return true
  } catch {
    return false
  }
}

/** The same of many rows, one after the other, without their places; five times as fast. */
export class Examiner {
  readonly #tally = new Tally()
  readonly #reader: RowReader
  #conversation: Conversation | null = null

  constructor({ format, columns, tags }: ReadOptions) {
    this.#reader = new RowReader(this.#tally, readingOf({ columns, tags }, format), MAX_ROW_BYTES, (row) => {
      this.#conversation = row
    })
  }

  examine(bytes: Buffer): Examined {
    const { findings, keys } = this.#tally
    findings.clear()
    keys.count = 0
    this.#conversation = null
    this.#reader.nextChunk(bytes)
    this.#reader.read(new RawRow(bytes, 0, bytes.length, 1, 0, false))
    const issues = [...findings.issues.values()].flat()
    for (const { issue } of findings.told.values()) issues.push(issue)
    return { conversation: this.#conversation, issues }
  }
}

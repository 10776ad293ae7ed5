import { emptyKey, type RowKey } from './checks/row-keys.ts'
import { checkTurns } from './checks/turns.ts'
import type { Conversation, Format } from './formats/format.ts'
import { explainUnknown, type Reading } from './formats/index.ts'
import type { PlainReader } from './plain/reader.ts'
import { PlainRowsInChunks } from './plain/rows.ts'
import { RowContext } from './row-context.ts'
import { InvalidJson, RowParser, RowProblem } from './row-parser.ts'
import { FileFault } from './split/fault.ts'
import type { PlainRows, RawRow } from './split/row.ts'
import type { Tally } from './tally.ts'
import type { JsonObject } from './words.ts'

/** Rows one by one into a tally: parsed, recognised, checked, measured. */
export class RowReader {
  readonly #tally: Tally
  readonly #reading: Reading
  readonly #parser: RowParser
  readonly #context: RowContext
  readonly #key: RowKey = emptyKey()
  readonly #formats: Readonly<Record<Format['name'], Format>>
  readonly #onGood: ((row: Conversation, sample: number) => void) | undefined
  /** For rows with the usual keys and nothing to tell; not when somebody wants them, or a preview. */
  readonly plain: PlainRows | undefined

  constructor(
    tally: Tally,
    reading: Reading,
    maxRowBytes: number,
    onGood?: (row: Conversation, sample: number) => void,
  ) {
    this.#tally = tally
    this.#reading = reading
    this.#parser = new RowParser(maxRowBytes, reading.expected)
    this.#context = new RowContext(tally.findings)
    this.#onGood = onGood
    this.#formats = Object.fromEntries(reading.formats.map((format) => [format.name, format])) as Record<
      Format['name'],
      Format
    >
    if (reading.isUsual && !onGood)
      this.plain = new PlainRowsInChunks(
        this.#context,
        maxRowBytes,
        (line, offset) => {
          if (tally.preview === null) return false
          this.#context.begin(tally.rows, line, offset)
          return true
        },
        (row, line, offset) => this.#takePlain(row, line, offset),
      )
  }

  /** The rows of another chunk follow. */
  nextChunk(chunk: Buffer): void {
    this.#parser.nextChunk(chunk)
  }

  /** `isFirst`: the first line of JSON Lines. FileFault when that is the beginning of one object over several lines. */
  read(raw: RawRow, isFirst = false): void {
    const tally = this.#tally
    const context = this.#context
    context.begin(tally.rows, raw.line, raw.offset)
    tally.rows++
    let row: JsonObject
    try {
      row = this.#parser.parse(raw)
    } catch (error) {
      if (!(error instanceof RowProblem)) throw error
      if (isFirst && error instanceof InvalidJson && startsObject(error.text)) {
        tally.rows = 0
        throw singleObject(raw.line)
      }
      context.find(error.code, error.message)
      return
    }
    const format = this.#formatOf(row)
    if (!format) {
      context.find('unknown_format', explainUnknown(row, this.#reading))
      return
    }
    tally.count(format, tally.rows - 1, raw.line)
    const conversation = format.read(row, context)
    if (!conversation) return
    if (!conversation.raw) checkTurns(conversation.turns, context)
    this.#addKey(raw.line, raw.offset)
    if (context.failed) return
    this.#addGood(conversation)
    tally.preview ??= format.preview(row)
    this.#onGood?.(conversation, tally.rows - 1)
  }

  #formatOf(row: JsonObject): Format | null {
    for (const format of this.#reading.formats) if (format.recognises(row)) return format
    return null
  }

  #takePlain({ format, turns, roles, hasTools }: PlainReader, line: number, offset: number): void {
    const tally = this.#tally
    const { statistics } = tally
    tally.rows++
    tally.count(this.#formats[format], tally.rows - 1, line)
    this.#addKey(line, offset)
    this.#addLengths(turns)
    statistics.roles.system += roles.system
    statistics.roles.user += roles.user
    statistics.roles.assistant += roles.assistant
    statistics.roles.tool += roles.tool
    if (hasTools) statistics.withTools++
  }

  #addKey(line: number, offset: number): void {
    const { asked, folded, answers, hasQuestion } = this.#context
    const key = this.#key
    key.sample = this.#tally.rows - 1
    key.line = line
    key.offset = offset
    key.row = folded.low ^ Math.imul(answers.low, 0x85ebca6b)
    key.rowHigh = folded.high ^ Math.imul(answers.high, 0xc2b2ae35)
    key.exact = asked.low
    key.question = hasQuestion ? folded.low : 0
    key.questionHigh = hasQuestion ? folded.high : 0
    this.#tally.keys.add(key)
  }

  #addGood({ turns, tools, raw }: Conversation): void {
    const tally = this.#tally
    const { statistics } = tally
    this.#addLengths(raw ? 1 : turns.length)
    let learned = raw ? 1 : 0
    for (let i = 0; i < turns.length; i++) {
      const { role, train } = turns[i] as (typeof turns)[0]
      statistics.roles[role]++
      if (role === 'assistant') {
        if (train === false) statistics.shownOnly++
        else learned++
      }
    }
    if (learned === 0) tally.unlearned++
    if (tools) statistics.withTools++
  }

  #addLengths(turns: number): void {
    const tally = this.#tally
    const { statistics } = tally
    const context = this.#context
    tally.good++
    statistics.characters.add(context.characters)
    statistics.words.add(context.allWords)
    statistics.outputWords.add(context.answerWords)
    statistics.turns.add(turns)
    const script = context.scripts.main
    if (script !== null) statistics.addScript(script)
  }
}

const singleObject = (line: number) =>
  new FileFault(
    'single_object',
    'The file is one JSON object over several lines; it must be an array of rows, [{…}, {…}], or JSON Lines with one row a line',
    line,
  )

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

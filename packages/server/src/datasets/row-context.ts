import { damageOf } from './checks/damage.ts'
import { normalise } from './checks/normalise.ts'
import { Scripts } from './checks/scripts.ts'
import { secretsOf } from './checks/secrets.ts'
import { CODES, type Code } from './codes.ts'
import type { Findings, Place } from './findings.ts'
import { suggestKey } from './formats/suggest.ts'
import { Hash } from './text/hash.ts'
import { scan } from './text/scan.ts'
import { type JsonObject, quote, typeName } from './words.ts'

/** What a text is to the model. */
export const PART = { system: 1, user: 2, assistant: 3, tool: 4, shown: 5, document: 6, tools: 7 } as const
export type Part = (typeof PART)[keyof typeof PART]

/** Learned, in parts of which the number is at least this; all others are what is asked. */
const isAnswer = (part: Part) => part === PART.assistant || part === PART.document

type Problem = readonly [code: Code, what: string]
const NO_PROBLEM: readonly Problem[] = []

/**
 * One row while it is read: where its findings go, the ways to take a field that find what is wrong with it, and what its
 * texts come to. Made once, begun for each row: rows are many and short.
 */
export class RowContext {
  readonly #findings: Findings
  readonly #place: Place = { sample: 0, line: 1, offset: 0 }
  failed = false
  /** The array that is being read, and where in it; texts outside of it are named by their key alone. */
  list: string | null = null
  index = 0
  /** Of the text that was taken last. */
  words = 0
  // Of all texts so far.
  characters = 0
  allWords = 0
  answerWords = 0
  texts = 0
  /** What is asked, letter case and blanks aside; the same exactly; what is learned. */
  readonly folded = new Hash()
  readonly asked = new Hash()
  readonly answers = new Hash()
  hasQuestion = false
  readonly scripts = new Scripts()

  constructor(findings: Findings) {
    this.#findings = findings
  }

  begin(sample: number, line: number, offset: number): void {
    this.#place.sample = sample
    this.#place.line = line
    this.#place.offset = offset
    this.failed = false
    this.list = null
    this.characters = 0
    this.allWords = 0
    this.answerWords = 0
    this.texts = 0
    this.folded.reset()
    this.asked.reset()
    this.answers.reset()
    this.hasQuestion = false
    this.scripts.reset()
  }

  get place(): Place {
    return this.#place
  }

  find(code: Code, message: string | (() => string), field: string | null = null): void {
    if (CODES[code] === 'error') this.failed = true
    this.#findings.add(code, message, this.#place, field)
  }

  /** For what is the same in every row: told at the first, counted at the others. */
  findOnce(code: Code, message: string, field: string): void {
    this.#findings.addOnce(`${code}/${message}`, code, () => message, this.#place, field)
  }

  unknownKeys(object: JsonObject, known: ReadonlySet<string>, where = ''): void {
    for (const key in object)
      if (!known.has(key))
        this.#findings.addOnce(
          `${where}/${key}`,
          'unknown_key',
          () => `Unknown key ${quote(key)}${where} is ignored`,
          this.#place,
          key,
        )
  }

  /** The name of a field of the row, or of the array's element that is being read. */
  field(key: string): string {
    return this.list === null ? key : `${this.list}[${this.index}]${key.startsWith('[') ? '' : '.'}${key}`
  }

  /** A string that must be there; undefined after an error. */
  required(object: JsonObject, key: string, part: Part): string | undefined {
    const value = object[key]
    if (typeof value === 'string') return this.text(value, key, part)
    if (this.isThere(object, key, 'a string')) this.text(value, key, part)
    return undefined
  }

  /** Whether a key that must be there is, and not null. */
  isThere(object: JsonObject, key: string, what: string): boolean {
    const value = object[key]
    const field = this.field(key)
    if (value === undefined) {
      const near = suggestKey(key, Object.keys(object))
      this.find('missing_key', `Missing "${field}"${near ? `; it has ${quote(near)}: rename it?` : ''}`, field)
    } else if (value === null) this.find('null_value', `"${field}" is null; it must be ${what}`, field)
    return value !== undefined && value !== null
  }

  /** A string that may be left out or null; undefined then, and after an error. */
  optional(object: JsonObject, key: string, part: Part): string | undefined {
    const value = object[key]
    return value === undefined || value === null ? undefined : this.text(value, key, part)
  }

  /** Every text of a row comes through here, once. */
  text(value: unknown, key: string, part: Part): string | undefined {
    if (typeof value !== 'string') {
      const field = this.field(key)
      this.find('wrong_type', `"${field}" must be a string, not ${typeName(value)}`, field)
      return undefined
    }
    this.words = 0
    if (value !== '') {
      scan.read(value)
      for (const [code, what] of this.measure(part)) this.#tell(code, what, key)
    }
    return value
  }

  /** Counts the text that the scan speaks of, which is not empty. Returns what its contents show; it is not told yet. */
  measure(part: Part): readonly Problem[] {
    this.texts++
    const isAscii = scan.isAscii
    let { length } = scan
    if (isAscii) {
      this.words = scan.words
      this.scripts.addAscii(length)
    } else {
      this.words = this.scripts.addScanned()
      length = this.scripts.units
    }
    this.characters += length
    this.allWords += this.words
    const end = part + 8 * this.texts
    const { hasLongWord, hasDigits, hasAtSign } = scan
    const hasSigns = hasLongWord || hasDigits || hasAtSign
    const looksDamaged = scan.hasControl || (!isAscii && this.scripts.suspicious)
    const isFolded = isAnswer(part) || (isAscii && !scan.hasRuns)
    const text = looksDamaged || hasSigns || !isFolded ? scan.text : ''
    if (isAnswer(part)) {
      this.answerWords += this.words
      this.answers.addExact(length, end)
    } else {
      this.hasQuestion = true
      this.asked.addExact(length, end)
      if (!isFolded) scan.read(normalise(text))
      this.folded.addFolded(end)
    }
    if (!looksDamaged && !hasSigns) return NO_PROBLEM
    return [
      ...(looksDamaged ? damageOf(text) : []),
      ...(hasSigns ? secretsOf(text, { hasLongWord, hasDigits, hasAtSign }) : []),
    ]
  }

  #tell(code: Code, what: string, key: string): void {
    const field = this.field(key)
    this.find(code, `"${field}" ${what}`, field)
  }
}

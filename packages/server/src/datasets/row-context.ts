import { damageOf } from './checks/damage.ts'
import { CODES, type Code } from './codes.ts'
import type { Findings } from './findings.ts'
import { suggestKey } from './formats/suggest.ts'
import { type JsonObject, quote, typeName } from './words.ts'

/** Where the findings of one row go, and the ways to take a field that find what is wrong with it. */
export class RowContext {
  readonly sample: number
  readonly line: number
  readonly #findings: Findings
  failed = false

  constructor(findings: Findings, sample: number, line: number) {
    this.#findings = findings
    this.sample = sample
    this.line = line
  }

  find(code: Code, message: string, field: string | null = null): void {
    if (CODES[code] === 'error') this.failed = true
    this.#findings.add(code, message, { sample: this.sample, line: this.line, field })
  }

  /** For what is the same in every row: told at the first, counted at the others. */
  findOnce(code: Code, message: string, field: string): void {
    this.#findings.addOnce(`${code}/${message}`, code, message, { sample: this.sample, line: this.line, field })
  }

  unknownKeys(object: JsonObject, known: ReadonlySet<string>, where = ''): void {
    for (const key of Object.keys(object))
      if (!known.has(key))
        this.#findings.addOnce(`${where}/${key}`, 'unknown_key', `Unknown key ${quote(key)}${where} is ignored`, {
          sample: this.sample,
          line: this.line,
          field: key,
        })
  }

  /** A string that must be there; undefined after an error. */
  required(object: JsonObject, key: string, field: string): string | undefined {
    const value = object[key]
    if (value === undefined) {
      const near = suggestKey(key, Object.keys(object))
      this.find('missing_key', `Missing "${field}"${near ? `; it has ${quote(near)}: rename it?` : ''}`, field)
    } else if (value === null) this.find('null_value', `"${field}" is null; it must be a string`, field)
    else return this.text(value, field)
    return undefined
  }

  /** A string that may be left out or null; undefined then, and after an error. */
  optional(object: JsonObject, key: string): string | undefined {
    const value = object[key]
    return value === undefined || value === null ? undefined : this.text(value, key)
  }

  text(value: unknown, field: string): string | undefined {
    if (typeof value !== 'string') {
      this.find('wrong_type', `"${field}" must be a string, not ${typeName(value)}`, field)
      return undefined
    }
    for (const [code, what] of damageOf(value)) this.find(code, `"${field}" ${what}`, field)
    return value
  }
}

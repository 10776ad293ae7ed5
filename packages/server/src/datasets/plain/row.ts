import { isUtf8 } from 'node:buffer'
import type { Role } from '../formats/format.ts'
import { rolesOf } from '../formats/roles.ts'
import { SLOTS, scan } from '../text/scan.ts'
import { Names, QUOTE } from './names.ts'

const NEWLINE = 0x0a
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const NULL = [0x6e, 0x75, 0x6c, 0x6c]

const KEYS = [
  'instruction',
  'input',
  'output',
  'system',
  'tools',
  'conversations',
  'messages',
  'prompt',
  'completion',
  'text',
] as const
export type Key = (typeof KEYS)[number]
const KEY_NAMES = new Names(KEYS)
export const KEY = Object.fromEntries(KEYS.map((key, i) => [key, i])) as Record<Key, number>
export const maskOf = (...keys: Key[]) => keys.reduce((mask, key) => mask | (1 << KEY[key]), 0)
const LISTS = maskOf('conversations', 'messages')
/** Those that may be null, which is as good as not there. */
const OPTIONAL = maskOf('input', 'system', 'tools')

/** Role and text of a turn: ShareGPT's keys or OpenAI's. */
const TURN_NAMES = new Names(['from', 'value', 'role', 'content'])
const SHAREGPT = 0b0011
const OPENAI = 0b1100
const ROLES = [...rolesOf({})]
const ROLE_NAMES = new Names(ROLES.map(([name]) => name))

/**
 * A row of the plainest shape, read in its bytes: an object of known keys, each once, with strings that are not odd; in a
 * list of turns each a role that is known and a text. Its texts lie in the scan's slots. Anything else is not plain, good
 * JSON or not: JSON.parse and the formats will say what it is.
 */
export class PlainRow {
  /** Bits of the keys that have a text or a list, and of all. */
  #keys = 0
  #seen = 0
  readonly #slots = new Uint8Array(KEYS.length)
  #texts = 0
  #hasHigh = false
  /** Turns of the list: each one's role, and the slot of its text. */
  turns = 0
  readonly roles: Role[] = []
  readonly slots = new Uint8Array(SLOTS)
  /** Line breaks in it. */
  lines = 0

  /** Reads the row at this address of the scan's chunk; returns where it ends, 0 when it is not plain. */
  read(start: number): number {
    this.#keys = 0
    this.#seen = 0
    this.#texts = 0
    this.#hasHigh = false
    this.turns = 0
    this.lines = 0
    scan.beginRow()
    const end = scan.bytes[start] === OPEN_BRACE ? this.#object(start) : 0
    return end !== 0 && this.#hasHigh && !isUtf8(scan.bytes.subarray(start, end)) ? 0 : end
  }

  /** Whether it has these keys, and of the others none. */
  has(keys: number, others = 0): boolean {
    return (this.#keys & keys) === keys && (this.#seen & ~(keys | others)) === 0
  }

  /** The slot of a key's text; 0 for none. */
  slot(key: number): number {
    return (this.#keys & (1 << key)) === 0 ? 0 : (this.#slots[key] as number)
  }

  #object(start: number): number {
    const { bytes } = scan
    let at = this.#blanks(start + 1)
    for (;;) {
      if (bytes[at] !== QUOTE) return 0
      const key = KEY_NAMES.at(bytes, at + 1)
      if (key === -1 || (this.#seen & (1 << key)) !== 0) return 0
      this.#seen |= 1 << key
      at = this.#value(at + 1 + KEY_NAMES.length(key), key)
      if (at === 0) return 0
      at = this.#blanks(at)
      const byte = bytes[at]
      if (byte === CLOSE_BRACE) return at + 1
      if (byte !== COMMA) return 0
      at = this.#blanks(at + 1)
    }
  }

  /** From behind a key. */
  #value(from: number, key: number): number {
    const { bytes } = scan
    const at = this.#colon(from)
    if (at === 0) return 0
    if ((LISTS & (1 << key)) !== 0) {
      this.#keys |= 1 << key
      return bytes[at] === OPEN_BRACKET && this.turns === 0 ? this.#list(at + 1) : 0
    }
    if (bytes[at] === QUOTE) {
      this.#keys |= 1 << key
      const end = this.#text(at + 1)
      this.#slots[key] = this.#texts
      return end
    }
    return (OPTIONAL & (1 << key)) !== 0 && NULL.every((letter, i) => bytes[at + i] === letter) ? at + NULL.length : 0
  }

  /** Turns, from behind the bracket; at least one. */
  #list(from: number): number {
    const { bytes } = scan
    let at = this.#blanks(from)
    for (;;) {
      if (bytes[at] !== OPEN_BRACE) return 0
      at = this.#turn(at + 1)
      if (at === 0) return 0
      at = this.#blanks(at)
      const byte = bytes[at]
      if (byte === CLOSE_BRACKET) return at + 1
      if (byte !== COMMA) return 0
      at = this.#blanks(at + 1)
    }
  }

  #turn(from: number): number {
    const { bytes } = scan
    let seen = 0
    let at = this.#blanks(from)
    for (;;) {
      if (bytes[at] !== QUOTE) return 0
      const key = TURN_NAMES.at(bytes, at + 1)
      if (key === -1 || (seen & (1 << key)) !== 0) return 0
      seen |= 1 << key
      at = this.#colon(at + 1 + TURN_NAMES.length(key))
      if (at === 0 || bytes[at] !== QUOTE) return 0
      if ((key & 1) === 0) {
        const role = ROLE_NAMES.at(bytes, at + 1)
        if (role === -1) return 0
        this.roles[this.turns] = (ROLES[role] as (typeof ROLES)[0])[1]
        at += 1 + ROLE_NAMES.length(role)
      } else {
        at = this.#text(at + 1)
        if (at === 0) return 0
        this.slots[this.turns] = this.#texts
      }
      at = this.#blanks(at)
      const byte = bytes[at]
      if (byte === CLOSE_BRACE) break
      if (byte !== COMMA) return 0
      at = this.#blanks(at + 1)
    }
    this.turns++
    return seen === SHAREGPT || seen === OPENAI ? at + 1 : 0
  }

  /** From behind the opening quote. Slots begin with 1. */
  #text(at: number): number {
    if (++this.#texts === SLOTS) return 0
    const end = scan.take(at, this.#texts)
    if (end !== 0 && !scan.isAscii) this.#hasHigh = true
    return end
  }

  /** From behind a key to its value. */
  #colon(from: number): number {
    const at = this.#blanks(from)
    return scan.bytes[at] === COLON ? this.#blanks(at + 1) : 0
  }

  /** Behind the chunk is a 0. */
  #blanks(from: number): number {
    const { bytes } = scan
    let at = from
    for (;;) {
      const byte = bytes[at] as number
      if (byte > 0x20) return at
      if (byte === NEWLINE) this.lines++
      else if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d) return at
      at++
    }
  }
}

import { isUsualOutput } from '../checks/texts.ts'
import { follows } from '../checks/turns.ts'
import { MIN_INSTRUCTION_WORDS } from '../formats/alpaca.ts'
import type { Format, Role } from '../formats/format.ts'
import { describesTools } from '../formats/tools.ts'
import { PART, type Part, type RowContext } from '../row-context.ts'
import { scan } from '../text/scan.ts'
import { KEY, maskOf, PlainRow } from './row.ts'

const CONVERSATIONS = maskOf('conversations')
const MESSAGES = maskOf('messages')
const BESIDE_TURNS = maskOf('system', 'tools')
const ALPACA = maskOf('instruction', 'output')
const BESIDE_ALPACA = maskOf('input', 'system')
const PROMPT_COMPLETION = maskOf('prompt', 'completion')
const TEXT = maskOf('text')

/**
 * What formats make of a plain row with the usual keys: its texts go to the context in the same order and as the same parts
 * as those formats take them. A row of which anything is to be told is left to the formats, so that only they do.
 */
export class PlainReader {
  readonly #row = new PlainRow()
  readonly #context: RowContext
  /** Of the row that was read. */
  format: Format['name'] = 'alpaca'
  turns = 0
  readonly roles: Record<Role, number> = { system: 0, user: 0, assistant: 0, tool: 0 }
  hasTools = false

  constructor(context: RowContext) {
    this.#context = context
  }

  get lines(): number {
    return this.#row.lines
  }

  /** The end of the row at this address, when nothing is to be told of it; else 0. The context has begun a row. */
  read(at: number): number {
    const end = this.#row.read(at)
    return end !== 0 && this.#measure() ? end : 0
  }

  #measure(): boolean {
    const row = this.#row
    const { roles } = this
    roles.system = 0
    roles.user = 0
    roles.assistant = 0
    roles.tool = 0
    this.hasTools = false
    this.turns = 0
    if (row.has(ALPACA, BESIDE_ALPACA)) return this.#alpaca()
    if (row.has(CONVERSATIONS, BESIDE_TURNS)) return this.#chat('sharegpt')
    return row.has(MESSAGES, BESIDE_TURNS) ? this.#chat('openai') : this.#raw()
  }

  #alpaca(): boolean {
    const row = this.#row
    this.format = 'alpaca'
    if (!this.#text(row.slot(KEY.instruction), PART.user)) return false
    if (this.#context.words < MIN_INSTRUCTION_WORDS) return false
    if (!this.#text(row.slot(KEY.input), PART.user)) return false
    if (!this.#answer(row.slot(KEY.output)) || !this.#system()) return false
    this.roles.user = 1
    this.roles.assistant = 1
    this.turns += 2
    return true
  }

  #chat(format: Format['name']): boolean {
    const row = this.#row
    this.format = format
    if (!this.#system() || !this.#tools()) return false
    let previous: Role | null = null
    for (let i = 0; i < row.turns; i++) {
      const role = row.roles[i] as Role
      const slot = row.slots[i] as number
      if (role === 'system') {
        if (this.turns > 0) return false
      } else {
        if (!follows(previous, role)) return false
        previous = role
      }
      if (role === 'assistant') {
        if (!this.#answer(slot)) return false
      } else if (!this.#text(slot, PART[role]) || this.#context.words === 0) return false
      this.roles[role]++
      this.turns++
    }
    return previous === 'assistant'
  }

  #raw(): boolean {
    const row = this.#row
    this.turns = 1
    if (row.has(TEXT)) {
      this.format = 'text'
      return this.#text(row.slot(KEY.text), PART.document) && this.#context.words > 0
    }
    this.format = 'prompt_completion'
    if (!row.has(PROMPT_COMPLETION)) return false
    return this.#text(row.slot(KEY.prompt), PART.user) && this.#answer(row.slot(KEY.completion))
  }

  #system(): boolean {
    const slot = this.#row.slot(KEY.system)
    if (slot === 0) return true
    scan.select(slot)
    if (scan.length > 0) {
      this.roles.system = 1
      this.turns++
    }
    return this.#text(slot, PART.system)
  }

  /** Descriptions of tools that have been read before: many rows have the same. */
  #tools(): boolean {
    const slot = this.#row.slot(KEY.tools)
    if (slot === 0) return true
    scan.select(slot)
    if (scan.length === 0) return true
    const described = describesTools(scan.text)
    if (described === null) return false
    this.hasTools = described
    return this.#text(slot, PART.tools)
  }

  #answer(slot: number): boolean {
    return this.#text(slot, PART.assistant) && isUsualOutput(this.#context.words)
  }

  /** Whether nothing is to be told of a text's contents; slot 0 is none. */
  #text(slot: number, part: Part): boolean {
    const context = this.#context
    context.words = 0
    if (slot === 0) return true
    scan.select(slot)
    return scan.length === 0 || context.measure(part).length === 0
  }
}

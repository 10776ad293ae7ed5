/**
 * Finds the calls of tools in the text of an answer, piece by piece. Two forms are known: `<tool_call>` around
 * {"name", "arguments"} (Hermes, Qwen and others), and such an object alone on a line, which is what models are taught here
 * (datasets/formats/tools.ts; Llama calls the second key "parameters"). Only tools that were offered can be called;
 * everything else stays text.
 */
import { randomUUID } from 'node:crypto'
import type { ChatToolCall } from '@mlx-training/contract'

export interface Read {
  text: string
  calls: ChatToolCall[]
}

const OPEN = '<tool_call>'
const CLOSE = '</tool_call>'
/** Characters, after which what may yet become a call is text: its end is looked for with every token. */
const MAX_HELD = 65_536
const MAX_SPACE = 100

export interface CallReader {
  /** What can be told now: text that is not the beginning of a call, and calls that are whole. */
  add(text: string): Read
  finish(): Read
}

/** Of an answer that is a call and nothing else, over several lines maybe. One that was cut short stays text. */
export class WholeCallReader implements CallReader {
  readonly #names: ReadonlySet<string>
  #held = ''

  constructor(names: Iterable<string>) {
    this.#names = new Set(names)
  }

  add(text: string): Read {
    this.#held += text
    return { text: '', calls: [] }
  }

  finish(): Read {
    const call = callOf(this.#held, this.#names)
    return call ? { text: '', calls: [call] } : { text: this.#held, calls: [] }
  }
}

export class ToolCallReader implements CallReader {
  readonly #names: ReadonlySet<string>
  readonly #most: number
  #held = ''
  /** Whether `#held` is the beginning of the answer, or of what follows a call. */
  #fresh = true
  #count = 0

  /** `most`: calls after which the others are left out. */
  constructor(names: Iterable<string>, most = Number.POSITIVE_INFINITY) {
    this.#names = new Set(names)
    this.#most = most
  }

  /** Whether a call has been found. */
  get called(): boolean {
    return this.#count > 0
  }

  add(text: string): Read {
    this.#held += text
    return this.#read(this.#held.length > MAX_HELD)
  }

  finish(): Read {
    const { text, calls } = this.#read(true)
    return { text: this.called ? text.trimEnd() : text, calls }
  }

  #read(ended: boolean): Read {
    let text = ''
    const calls: ChatToolCall[] = []
    const say = (length: number) => {
      if (length > 0) this.#fresh = false
      text += this.#held.slice(0, length)
      this.#held = this.#held.slice(length)
    }
    for (;;) {
      const found = this.#find()
      if (!found) {
        say(this.#held.length - (ended ? 0 : mayBegin(this.#held)))
        return { text, calls }
      }
      const before = this.#held.slice(0, found.start).trimEnd().length
      if (found.end === null && !ended) {
        say(before)
        return { text, calls }
      }
      const call = callOf(found.inner, this.#names)
      if (call) {
        say(before)
        this.#held = this.#held.slice((found.end ?? found.length) - before).trimStart()
        this.#fresh = true
        if (++this.#count <= this.#most) calls.push(call)
      } else say(found.end ?? found.length)
    }
  }

  /** The first place where a call may be; `end` is null while it is being written. */
  #find(): { start: number; inner: string; end: number | null; length: number } | null {
    const held = this.#held
    const tag = held.indexOf(OPEN)
    const line = (this.#fresh ? /^\s*\{|\n[ \t]*\{/ : /\n[ \t]*\{/).exec(held)
    const brace = line ? line.index + line[0].length - 1 : -1
    if (tag < 0 && brace < 0) return null
    const tagged = tag >= 0 && (brace < 0 || tag < brace)
    const start = tagged ? tag : brace
    const from = tagged ? tag + OPEN.length : brace
    const close = held.indexOf(tagged ? CLOSE : '\n', from)
    return {
      start,
      inner: held.slice(from, close < 0 ? undefined : close),
      end: close < 0 ? null : close + (tagged ? CLOSE.length : 0),
      length: held.length,
    }
  }
}

function callOf(text: string, names: ReadonlySet<string>): ChatToolCall | null {
  try {
    const { name, arguments: given, parameters } = JSON.parse(text)
    if (!names.has(name)) return null
    const args = given ?? parameters ?? {}
    return {
      id: `call_${randomUUID().replaceAll('-', '').slice(0, 24)}`,
      type: 'function',
      function: { name, arguments: typeof args === 'string' ? args : JSON.stringify(args) },
    }
  } catch {
    return null
  }
}

/** How much of the end may be the beginning of a call, with the space before it. */
function mayBegin(text: string): number {
  let part = Math.min(OPEN.length - 1, text.length)
  while (!text.endsWith(OPEN.slice(0, part))) part--
  const said = text.slice(0, text.length - part)
  const space = said.length - said.trimEnd().length
  return part + (space > MAX_SPACE ? 0 : space)
}

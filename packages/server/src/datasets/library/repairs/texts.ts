import type { ReadOptions } from '../../port.ts'
import { isObject, type JsonObject } from '../../words.ts'

/** Where the texts of a row are, in every format: these keys, the pairs of `history`, and the turns of these lists. */
export interface Texts {
  keys: ReadonlySet<string>
  history: string
  lists: readonly string[]
  turnKeys: readonly string[]
  /** A prompt and its completion, which meet. */
  before: string | null
  after: string | null
}

/** By their usual names, and by those that the file was said to have. */
export function textsOf({ format, columns = {}, tags = {} }: ReadOptions): Texts {
  const { prompt, query, response, system, history, messages } = columns
  const usual = ['instruction', 'input', 'output', 'system', 'prompt', 'completion', 'text']
  const meet = format === 'prompt_completion' || (prompt === undefined && response === undefined)
  return {
    keys: new Set([...usual, prompt, query, response, system].filter((key) => key !== undefined)),
    history: history ?? 'history',
    lists: turnListsOf({ columns: { messages } }),
    turnKeys: ['value', 'content', ...(tags.content_tag ? [tags.content_tag] : [])],
    before: meet ? (prompt ?? 'prompt') : null,
    after: meet ? (response ?? 'completion') : null,
  }
}

export const turnListsOf = ({ columns }: ReadOptions): readonly string[] =>
  columns?.messages === undefined ? ['conversations', 'messages'] : [columns.messages]

/** The row with `change` applied to each of its texts, which also gets the text's key; null when nothing changed. */
export function mapTexts(
  row: JsonObject,
  { keys, history, lists, turnKeys }: Texts,
  change: (text: string, key: string) => string,
): JsonObject | null {
  let changed = false
  const text = (value: unknown, key: string): unknown => {
    if (typeof value !== 'string') return value
    const mended = change(value, key)
    if (mended !== value) changed = true
    return mended
  }
  const part = (value: unknown) =>
    isObject(value) && value.type === 'text' ? { ...value, text: text(value.text, 'content') } : value
  const turn = (value: unknown) => {
    if (!isObject(value)) return value
    return mapEntries(value, (each, key) => {
      if (!turnKeys.includes(key)) return each
      return Array.isArray(each) ? each.map(part) : text(each, key)
    })
  }
  const mended = mapEntries(row, (value, key) => {
    if (!Array.isArray(value)) return keys.has(key) ? text(value, key) : value
    if (lists.includes(key)) return value.map(turn)
    if (key !== history) return value
    return value.map((pair) => (Array.isArray(pair) ? pair.map((each) => text(each, key)) : pair))
  })
  return changed ? mended : null
}

/** Keeps the order of keys, and "__proto__" an ordinary one. */
function mapEntries(object: JsonObject, change: (value: unknown, key: string) => unknown): JsonObject {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value, key)]))
}

import { isObject, type JsonObject } from '../../words.ts'

/** Where the texts of a row are, in every format: these keys, the pairs of `history`, and the turns of these lists. */
const TEXT_KEYS = ['instruction', 'input', 'output', 'system', 'prompt', 'completion', 'text']
export const TURN_LISTS = ['conversations', 'messages']
const TURN_TEXT_KEYS = ['value', 'content']

/** The row with `change` applied to each of its texts, which also gets the text's key; null when nothing changed. */
export function mapTexts(row: JsonObject, change: (text: string, key: string) => string): JsonObject | null {
  let changed = false
  const text = (value: unknown, key: string): unknown => {
    if (typeof value !== 'string') return value
    const mended = change(value, key)
    if (mended !== value) changed = true
    return mended
  }
  const keyed = (object: JsonObject, keys: readonly string[]): JsonObject =>
    mapEntries(object, (value, key) => (keys.includes(key) ? text(value, key) : value))
  const part = (value: unknown) =>
    isObject(value) && value.type === 'text' ? { ...value, text: text(value.text, 'content') } : value
  const turn = (value: unknown) => {
    if (!isObject(value)) return value
    const mended = keyed(value, TURN_TEXT_KEYS)
    return Array.isArray(mended.content) ? { ...mended, content: mended.content.map(part) } : mended
  }
  const mended = mapEntries(keyed(row, TEXT_KEYS), (value, key) => {
    if (!Array.isArray(value)) return value
    if (TURN_LISTS.includes(key)) return value.map(turn)
    if (key !== 'history') return value
    return value.map((pair) => (Array.isArray(pair) ? pair.map((each) => text(each, key)) : pair))
  })
  return changed ? mended : null
}

/** Keeps the order of keys, and "__proto__" an ordinary one. */
function mapEntries(object: JsonObject, change: (value: unknown, key: string) => unknown): JsonObject {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value, key)]))
}

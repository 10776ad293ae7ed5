import { type JsonObject, quote } from '../words.ts'
import { alpaca } from './alpaca.ts'
import { openai, sharegpt } from './chat.ts'
import type { Format } from './format.ts'
import { promptCompletion, text } from './raw.ts'
import { suggestKey } from './suggest.ts'

/** In the order they are tried: a list of turns says more than a stray `output` column, and that more than `text`. */
export const FORMATS: readonly Format[] = [sharegpt, openai, alpaca, promptCompletion, text]

export const EXPECTED =
  'Alpaca needs instruction and output, ShareGPT conversations, OpenAI messages; plain text needs prompt and completion, or text'

/** Why no format knows this row, and which keys were probably meant. */
export function explainUnknown(row: JsonObject): string {
  const keys = Object.keys(row)
  if (keys.length === 0) return `The row has no keys; ${EXPECTED}`
  const shown = keys.slice(0, 8).map((key) => quote(key).slice(1, -1))
  const hints = ['instruction', 'output', 'conversations', 'messages']
    .map((wanted) => [suggestKey(wanted, keys), wanted] as const)
    .filter(([near]) => near !== null)
    .map(([near, wanted]) => `${quote(near as string)} → "${wanted}"`)
  return (
    `The row has keys ${shown.join(', ')}${keys.length > shown.length ? ', …' : ''}; ${EXPECTED}` +
    (hints.length > 0 ? ` (rename ${hints.join(', ')}?)` : '')
  )
}

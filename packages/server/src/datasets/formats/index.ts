import type { ColumnMap, DatasetFormat, TagMap } from '@mlx-training/contract'
import { type JsonObject, quote } from '../words.ts'
import { alpaca } from './alpaca.ts'
import { openai, sharegpt } from './chat.ts'
import type { Format } from './format.ts'
import { promptCompletion, text } from './raw.ts'
import { suggestKey } from './suggest.ts'

/** How rows are read: the formats in the order in which they are tried, and what is expected when none of them fits. */
export interface Reading {
  formats: readonly Format[]
  expected: string
  /** Whether keys have their usual names, and formats their usual order. */
  isUsual: boolean
}

/** Names of columns and of turns' keys and roles, as LLaMA-Factory's dataset_info.json has them. */
export interface Maps {
  columns?: ColumnMap | undefined
  tags?: TagMap | undefined
}

/** A list of turns says more than a stray `output` column, and that more than `text`. */
const USUAL: Reading = {
  formats: [sharegpt(), openai(), alpaca(), promptCompletion(), text()],
  expected:
    'Alpaca needs instruction and output, ShareGPT conversations, OpenAI messages; plain text needs prompt and completion, or text',
  isUsual: true,
}

/** With names of its own a file is read by these alone; `asked` says what they are names of. */
export function readingOf({ columns = {}, tags = {} }: Maps, asked: DatasetFormat | undefined): Reading {
  const names = Object.keys(columns)
  const isChat = columns.messages !== undefined || Object.keys(tags).length > 0
  const isPair = ['prompt', 'query', 'response', 'history'].some((name) => names.includes(name))
  if (names.length === 0 && !isChat) return USUAL
  const chat = asked === 'openai' ? openai(columns, tags) : sharegpt(columns, tags)
  const pair =
    asked === 'prompt_completion' ? promptCompletion(columns) : asked === 'text' ? text(columns) : alpaca(columns)
  const formats =
    isChat || isPair
      ? [...(isChat ? [chat] : []), ...(isPair ? [pair] : [])]
      : [sharegpt(columns), openai(columns), pair]
  return {
    formats,
    expected: `with these names a row needs ${formats.map(({ traits }) => traits).join(', or ')}`,
    isUsual: false,
  }
}

/** Why no format knows this row, and which keys were probably meant. */
export function explainUnknown(row: JsonObject, { expected }: Reading): string {
  const keys = Object.keys(row)
  if (keys.length === 0) return `The row has no keys; ${expected}`
  const shown = keys.slice(0, 8).map((key) => quote(key).slice(1, -1))
  const hints = ['instruction', 'output', 'conversations', 'messages']
    .map((wanted) => [suggestKey(wanted, keys), wanted] as const)
    .filter(([near, wanted]) => near !== null && near !== wanted)
    .map(([near, wanted]) => `${quote(near as string)} → "${wanted}"`)
  return (
    `The row has keys ${shown.join(', ')}${keys.length > shown.length ? ', …' : ''}; ${expected}` +
    (hints.length > 0 ? ` (rename ${hints.join(', ')}?)` : '')
  )
}

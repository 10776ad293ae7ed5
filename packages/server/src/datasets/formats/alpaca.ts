import { countWords } from '../checks/words.ts'
import type { RowContext } from '../row-context.ts'
import { type JsonObject, plural, shorten } from '../words.ts'
import { type Format, PREVIEW_CHARACTERS, type Turn } from './format.ts'

const KEYS = new Set(['instruction', 'input', 'output', 'system', 'history'])
/** "Summarise this" says too little to learn from; "Name three colours" does not. */
const MIN_INSTRUCTION_WORDS = 3

/** Stanford Alpaca's {instruction, input, output}, with LLaMA-Factory's `system` and `history`. */
export const alpaca: Format = {
  name: 'alpaca',
  traits: 'instruction and output',

  recognises: (row) => Object.hasOwn(row, 'instruction') || Object.hasOwn(row, 'output'),

  read(row, context) {
    const instruction = context.required(row, 'instruction', 'instruction')
    const input = context.optional(row, 'input') ?? ''
    const output = context.required(row, 'output', 'output')
    const system = context.optional(row, 'system')
    const history = readHistory(row.history, context)
    context.unknownKeys(row, KEYS)
    if (instruction !== undefined) {
      const words = countWords(instruction)
      if (words === 0) context.find('empty_instruction', 'Empty instruction', 'instruction')
      else if (words < MIN_INSTRUCTION_WORDS)
        context.find('short_instruction', `Very short instruction (${plural(words, 'word')})`, 'instruction')
    }
    if (instruction === undefined || output === undefined) return null
    const turns: Turn[] = [
      ...history,
      { role: 'user', content: input ? `${instruction}\n\n${input}` : instruction, field: 'instruction' },
      { role: 'assistant', content: output, field: 'output' },
    ]
    if (system) turns.unshift({ role: 'system', content: system, field: 'system' })
    return { turns, alpaca: { instruction, input } }
  },

  preview(row) {
    const preview: JsonObject = { instruction: row.instruction, output: row.output, input: row.input ?? '' }
    if (row.system) preview.system = row.system
    for (const key of Object.keys(preview)) preview[key] = shorten(preview[key] as string, PREVIEW_CHARACTERS)
    return preview
  },
}

/** Earlier exchanges: [[user, assistant], …]. */
function readHistory(history: unknown, context: RowContext): Turn[] {
  if (history === undefined || history === null) return []
  if (!Array.isArray(history)) {
    context.find('wrong_type', '"history" must be an array of [user, assistant] pairs', 'history')
    return []
  }
  return history.flatMap((pair: unknown, i): Turn[] => {
    const field = `history[${i}]`
    if (!Array.isArray(pair) || pair.length !== 2) {
      context.find('wrong_type', `"${field}" must be a pair: [user, assistant]`, field)
      return []
    }
    const user = context.text(pair[0], `${field}[0]`)
    const assistant = context.text(pair[1], `${field}[1]`)
    if (user === undefined || assistant === undefined) return []
    return [
      { role: 'user', content: user, field: `${field}[0]` },
      { role: 'assistant', content: assistant, field: `${field}[1]` },
    ]
  })
}

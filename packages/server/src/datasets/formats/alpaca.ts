import type { ColumnMap } from '@mlx-training/contract'
import { checkOutput, checkTurn } from '../checks/texts.ts'
import { PART, type RowContext } from '../row-context.ts'
import { type JsonObject, plural, shorten } from '../words.ts'
import { type Format, PREVIEW_CHARACTERS, type Turn } from './format.ts'

/** "Summarise this" says too little to learn from; "Name three colours" does not. */
export const MIN_INSTRUCTION_WORDS = 3

/** Stanford Alpaca's {instruction, input, output}, with LLaMA-Factory's `system` and `history`, under these names or others. */
export function alpaca(columns: ColumnMap = {}): Format {
  const {
    prompt = 'instruction',
    query = 'input',
    response = 'output',
    system = 'system',
    history = 'history',
  } = columns
  const known = new Set([prompt, query, response, system, history])

  function readHistory(row: JsonObject, context: RowContext): Turn[] {
    const given = row[history]
    if (given === undefined || given === null) return []
    if (!Array.isArray(given)) {
      context.find('wrong_type', `"${history}" must be an array of [user, assistant] pairs`, history)
      return []
    }
    context.list = history
    const turns = given.flatMap((pair: unknown, i): Turn[] => {
      context.index = i
      const field = `${history}[${i}]`
      if (!Array.isArray(pair) || pair.length !== 2) {
        context.find('wrong_type', `"${field}" must be a pair: [user, assistant]`, field)
        return []
      }
      const user = context.text(pair[0], '[0]', PART.user)
      if (user !== undefined) checkTurn('user', '[0]', context)
      const assistant = context.text(pair[1], '[1]', PART.assistant)
      if (assistant !== undefined) checkOutput('[1]', context)
      if (user === undefined || assistant === undefined) return []
      return [
        { role: 'user', content: user, field: `${field}[0]` },
        { role: 'assistant', content: assistant, field: `${field}[1]` },
      ]
    })
    context.list = null
    return turns
  }

  return {
    name: 'alpaca',
    traits: `${prompt} and ${response}`,

    recognises: (row) => row[prompt] !== undefined || row[response] !== undefined,

    read(row, context) {
      const instruction = context.required(row, prompt, PART.user)
      if (instruction !== undefined && context.words < MIN_INSTRUCTION_WORDS) {
        const { words } = context
        if (words === 0) context.find('empty_instruction', 'Empty instruction', prompt)
        else context.find('short_instruction', () => `Very short instruction (${plural(words, 'word')})`, prompt)
      }
      const input = context.optional(row, query, PART.user) ?? ''
      const output = context.required(row, response, PART.assistant)
      if (output !== undefined) checkOutput(response, context)
      const systemText = context.optional(row, system, PART.system)
      const turns = readHistory(row, context)
      context.unknownKeys(row, known)
      if (instruction === undefined || output === undefined) return null
      turns.push(
        { role: 'user', content: input ? `${instruction}\n\n${input}` : instruction, field: prompt },
        { role: 'assistant', content: output, field: response },
      )
      if (systemText) turns.unshift({ role: 'system', content: systemText, field: system })
      return { turns, alpaca: { instruction, input } }
    },

    preview(row) {
      const preview: JsonObject = { [prompt]: row[prompt], [response]: row[response], [query]: row[query] ?? '' }
      if (row[system]) preview[system] = row[system]
      for (const key of Object.keys(preview)) preview[key] = shorten(preview[key] as string, PREVIEW_CHARACTERS)
      return preview
    },
  }
}

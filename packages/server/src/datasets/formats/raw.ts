import type { ColumnMap } from '@mlx-training/contract'
import { checkOutput } from '../checks/texts.ts'
import { PART } from '../row-context.ts'
import { type JsonObject, shorten } from '../words.ts'
import { type Format, PREVIEW_CHARACTERS } from './format.ts'

/** {prompt, completion}: text and how it goes on, as base models are trained; no template comes around it. */
export function promptCompletion(columns: ColumnMap = {}): Format {
  const { prompt = 'prompt', response = 'completion' } = columns
  const known = new Set([prompt, response])
  return {
    name: 'prompt_completion',
    traits: `${prompt} and ${response}`,

    recognises: (row) => row[response] !== undefined || row[prompt] !== undefined,

    read(row, context) {
      const before = context.required(row, prompt, PART.user)
      const completion = context.required(row, response, PART.assistant)
      if (completion !== undefined) checkOutput(response, context)
      context.unknownKeys(row, known)
      return before === undefined || completion === undefined
        ? null
        : { turns: [], raw: { prompt: before, completion } }
    },

    preview: (row) => shortened(row, [prompt, response]),
  }
}

/** {text}: all of it is learned, and it may be as long as it likes. */
export function text(columns: ColumnMap = {}): Format {
  const { prompt: key = 'text' } = columns
  const known = new Set([key])
  return {
    name: 'text',
    traits: key,

    recognises: (row) => row[key] !== undefined,

    read(row, context) {
      const completion = context.required(row, key, PART.document)
      if (completion !== undefined && context.words === 0)
        context.find('empty_output', 'Empty text: there is nothing to learn', key)
      context.unknownKeys(row, known)
      return completion === undefined ? null : { turns: [], raw: { prompt: '', completion } }
    },

    preview: (row) => shortened(row, [key]),
  }
}

const shortened = (row: JsonObject, keys: string[]) =>
  Object.fromEntries(keys.map((key) => [key, shorten(row[key] as string, PREVIEW_CHARACTERS)]))

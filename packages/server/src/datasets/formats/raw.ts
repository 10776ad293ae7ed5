import { type JsonObject, shorten } from '../words.ts'
import { type Format, PREVIEW_CHARACTERS } from './format.ts'

const PAIR_KEYS = new Set(['prompt', 'completion'])
const TEXT_KEYS = new Set(['text'])

/** {prompt, completion}: text and how it goes on, as base models are trained; no template comes around it. */
export const promptCompletion: Format = {
  name: 'prompt_completion',
  traits: 'prompt and completion',

  recognises: (row) => Object.hasOwn(row, 'completion') || Object.hasOwn(row, 'prompt'),

  read(row, context) {
    const prompt = context.required(row, 'prompt', 'prompt')
    const completion = context.required(row, 'completion', 'completion')
    context.unknownKeys(row, PAIR_KEYS)
    return prompt === undefined || completion === undefined ? null : { turns: [], raw: { prompt, completion } }
  },

  preview: ({ prompt, completion }) => shortened({ prompt, completion }),
}

/** {text}: all of it is learned. */
export const text: Format = {
  name: 'text',
  traits: 'text',

  recognises: (row) => Object.hasOwn(row, 'text'),

  read(row, context) {
    const completion = context.required(row, 'text', 'text')
    context.unknownKeys(row, TEXT_KEYS)
    return completion === undefined ? null : { turns: [], raw: { prompt: '', completion } }
  },

  preview: (row) => shortened({ text: row.text }),
}

const shortened = (texts: JsonObject) =>
  Object.fromEntries(Object.entries(texts).map(([key, value]) => [key, shorten(value as string, PREVIEW_CHARACTERS)]))

import type { Part, RowContext } from '../row-context.ts'
import { isObject, type JsonObject } from '../words.ts'
import { renderToolCalls } from './tools.ts'

/** A turn's text: a string; or OpenAI's text parts; or null beside tool calls, which become text. */
export function readContent(turn: JsonObject, key: string, part: Part, context: RowContext): string | undefined {
  const value = turn[key]
  if (typeof value === 'string' && turn.tool_calls === undefined) return context.text(value, key, part)
  const calls = renderToolCalls(turn.tool_calls, key, context)
  if (calls === null && !Array.isArray(value)) return context.required(turn, key, part)
  const text = Array.isArray(value) ? joinParts(value, key, context) : (value ?? '')
  if (text === undefined) return undefined
  if (typeof text !== 'string' || calls === null) return context.text(text, key, part)
  return context.text(text === '' ? calls : `${text}\n${calls}`, key, part)
}

function joinParts(parts: unknown[], key: string, context: RowContext): string | undefined {
  const texts = parts.map((part, i) => {
    if (isObject(part) && part.type === 'text') {
      if (typeof part.text === 'string') return part.text
      if (context.isThere(part, 'text', 'a string'))
        context.find('wrong_type', `"${context.field(`${key}[${i}]`)}.text" must be a string`, context.field(key))
    } else
      context.find(
        'wrong_type',
        `"${context.field(`${key}[${i}]`)}" must be a part of type "text": only text can be trained on`,
        context.field(key),
      )
    return undefined
  })
  return texts.includes(undefined) ? undefined : texts.join('')
}

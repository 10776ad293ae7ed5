import { closest } from '../../files/closest.ts'
import type { RowContext } from '../row-context.ts'
import { isObject, type JsonObject, quote, shorten, typeName } from '../words.ts'
import { type Format, PREVIEW_CHARACTERS, type Role, type Turn } from './format.ts'
import { readTools, renderToolCalls } from './tools.ts'
import { FLAG_KEYS, isTrained } from './train-flag.ts'

const PREVIEW_TURNS = 4

const ROLES: ReadonlyMap<string, Role> = new Map([
  ['system', 'system'],
  ['developer', 'system'],
  ['human', 'user'],
  ['user', 'user'],
  ['gpt', 'assistant'],
  ['assistant', 'assistant'],
  ['model', 'assistant'],
  ['chatgpt', 'assistant'],
  ['bot', 'assistant'],
  ['function_call', 'assistant'],
  ['tool_call', 'assistant'],
  ['tool', 'tool'],
  ['observation', 'tool'],
  ['function_response', 'tool'],
  ['function', 'tool'],
])

/** `name` and `tool_call_id` only link turns to one another; templates that need them take them from the contents. */
const TURN_KEYS = new Set(['from', 'value', 'role', 'content', 'tool_calls', 'name', 'tool_call_id', ...FLAG_KEYS])

/** ShareGPT's {conversations: [{from, value}]} and OpenAI's {messages: [{role, content}]}; each takes the other's turns. */
function chat(
  name: 'sharegpt' | 'openai',
  list: 'conversations' | 'messages',
  roleKey: 'from' | 'role',
  textKey: 'value' | 'content',
): Format {
  const rowKeys = new Set([list, 'system', 'tools'])
  const keysOf = (turn: JsonObject) =>
    Object.hasOwn(turn, 'role') && Object.hasOwn(turn, 'content')
      ? { role: 'role', text: 'content' }
      : Object.hasOwn(turn, 'from') && Object.hasOwn(turn, 'value')
        ? { role: 'from', text: 'value' }
        : { role: roleKey, text: textKey }

  function readTurn(turn: unknown, field: string, context: RowContext): Turn | null {
    if (!isObject(turn)) {
      context.find(
        'wrong_type',
        `"${field}" must be an object with ${roleKey} and ${textKey}, not ${typeName(turn)}`,
        field,
      )
      return null
    }
    context.unknownKeys(turn, TURN_KEYS, ' in a turn')
    const keys = keysOf(turn)
    const given = context.required(turn, keys.role, `${field}.${keys.role}`)
    const content = readContent(turn, keys.text, `${field}.${keys.text}`, context)
    if (given === undefined || content === undefined) return null
    const role = ROLES.get(given) ?? ROLES.get(given.toLowerCase())
    if (role) {
      const shownOnly = !isTrained(turn, role, field, context) && role === 'assistant'
      return { role, content, field: `${field}.${keys.text}`, ...(shownOnly && { train: false }) }
    }
    const near = closest(given, ROLES.keys())
    context.find(
      'unknown_role',
      `Unknown role ${quote(given)} in "${field}"${near ? ` (did you mean "${near}"?)` : ''}; known are ${[...ROLES.keys()].join(', ')}`,
      `${field}.${keys.role}`,
    )
    return null
  }

  return {
    name,
    traits: `${list} with ${roleKey} and ${textKey}`,

    recognises: (row) => Object.hasOwn(row, list),

    read(row, context) {
      context.unknownKeys(row, rowKeys)
      const system = context.optional(row, 'system')
      const tools = readTools(row.tools, context)
      const given = row[list]
      if (!Array.isArray(given)) {
        if (given === null) context.find('null_value', `"${list}" is null; it must be an array of turns`, list)
        else context.find('wrong_type', `"${list}" must be an array of turns, not ${typeName(given)}`, list)
        return null
      }
      if (given.length === 0) context.find('empty_conversation', `"${list}" has no turns`, list)
      const turns: Turn[] = system ? [{ role: 'system', content: system, field: 'system' }] : []
      given.forEach((each: unknown, i) => {
        const turn = readTurn(each, `${list}[${i}]`, context)
        if (turn) turns.push(turn)
      })
      return context.failed ? null : { turns, ...(tools && { tools }) }
    },

    preview(row) {
      const turns = (row[list] as JsonObject[]).slice(0, PREVIEW_TURNS).map((turn) => {
        const keys = keysOf(turn)
        const text = turn[keys.text]
        return {
          [keys.role]: turn[keys.role],
          [keys.text]: typeof text === 'string' ? shorten(text, PREVIEW_CHARACTERS) : text,
        }
      })
      return {
        ...(typeof row.system === 'string' && { system: shorten(row.system, PREVIEW_CHARACTERS) }),
        [list]: turns,
      }
    },
  }
}

/** A string; or OpenAI's text parts; or null beside tool calls, which become text. */
function readContent(turn: JsonObject, key: string, field: string, context: RowContext): string | undefined {
  const calls = renderToolCalls(turn.tool_calls, field, context)
  const value = turn[key]
  if (calls !== null && (value === null || value === undefined || value === '')) return calls
  const text = Array.isArray(value) ? joinParts(value, field, context) : context.required(turn, key, field)
  return text === undefined || calls === null ? text : `${text}\n${calls}`
}

function joinParts(parts: unknown[], field: string, context: RowContext): string | undefined {
  const texts = parts.map((part, i) => {
    if (isObject(part) && part.type === 'text') return context.required(part, 'text', `${field}[${i}].text`)
    context.find('wrong_type', `"${field}[${i}]" must be a part of type "text": only text can be trained on`, field)
    return undefined
  })
  return texts.includes(undefined) ? undefined : texts.join('')
}

export const sharegpt = chat('sharegpt', 'conversations', 'from', 'value')
export const openai = chat('openai', 'messages', 'role', 'content')

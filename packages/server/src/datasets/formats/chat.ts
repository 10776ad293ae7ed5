import type { ColumnMap, TagMap } from '@mlx-training/contract'
import { closest } from '../../files/closest.ts'
import { checkOutput, checkTurn } from '../checks/texts.ts'
import { PART, type RowContext } from '../row-context.ts'
import { isObject, type JsonObject, quote, shorten, typeName } from '../words.ts'
import { readContent } from './content.ts'
import { type Format, PREVIEW_CHARACTERS, type Role, type Turn } from './format.ts'
import { rolesOf } from './roles.ts'
import { readTools } from './tools.ts'
import { FLAG_KEYS, isTrained } from './train-flag.ts'

const PREVIEW_TURNS = 4

/** `name` and `tool_call_id` only link turns to one another; templates that need them take them from the contents. */
const TURN_KEYS = ['from', 'value', 'role', 'content', 'tool_calls', 'name', 'tool_call_id', ...FLAG_KEYS]

/** A turn whose field is put together when a finding names it, which is seldom. */
class ListTurn implements Turn {
  readonly role: Role
  readonly content: string
  readonly #list: string
  readonly #index: number
  readonly #key: string
  train?: false

  constructor(role: Role, content: string, list: string, index: number, key: string) {
    this.role = role
    this.content = content
    this.#list = list
    this.#index = index
    this.#key = key
  }

  get field(): string {
    return `${this.#list}[${this.#index}].${this.#key}`
  }
}

interface Keys {
  list: string
  role: string
  text: string
}

/** ShareGPT's {conversations: [{from, value}]} and OpenAI's {messages: [{role, content}]}; each takes the other's turns. */
function chat(name: 'sharegpt' | 'openai', usual: Keys, columns: ColumnMap, tags: TagMap): Format {
  const list = columns.messages ?? usual.list
  const roleKey = tags.role_tag ?? usual.role
  const textKey = tags.content_tag ?? usual.text
  const { system: systemKey = 'system', tools: toolsKey = 'tools' } = columns
  const rowKeys = new Set([list, systemKey, toolsKey])
  const turnKeys = new Set([...TURN_KEYS, roleKey, textKey])
  const roles = rolesOf(tags)
  const isMapped = tags.role_tag !== undefined || tags.content_tag !== undefined
  /** Whether a turn speaks of "from" and "value". Told by what it has when it hasn't the usual keys. */
  const keysOf = (turn: JsonObject): { role: string; text: string } => {
    if (turn[roleKey] !== undefined && turn[textKey] !== undefined) return own
    if (!isMapped && turn[other.role] !== undefined && turn[other.text] !== undefined) return other
    return own
  }
  const own = { role: roleKey, text: textKey }
  const other = usual.role === 'from' ? { role: 'role', text: 'content' } : { role: 'from', text: 'value' }

  function readTurn(turn: unknown, context: RowContext): Turn | null {
    if (!isObject(turn)) {
      const field = `${list}[${context.index}]`
      context.find(
        'wrong_type',
        `"${field}" must be an object with ${roleKey} and ${textKey}, not ${typeName(turn)}`,
        field,
      )
      return null
    }
    context.unknownKeys(turn, turnKeys, ' in a turn')
    const keys = keysOf(turn)
    const role = readRole(turn, keys.role, context)
    const isShown = role !== null && !isTrained(turn, role, context) && role === 'assistant'
    const part = role === null ? PART.user : isShown ? PART.shown : PART[role]
    const content = readContent(turn, keys.text, part, context)
    if (role === null || content === undefined) return null
    if (role === 'assistant') checkOutput(keys.text, context)
    else checkTurn(role, keys.text, context)
    const read = new ListTurn(role, content, list, context.index, keys.text)
    if (isShown) read.train = false
    return read
  }

  function readRole(turn: JsonObject, key: string, context: RowContext): Role | null {
    const given = turn[key]
    if (typeof given === 'string') {
      const role = roles.get(given) ?? roles.get(given.toLowerCase())
      if (role !== undefined) return role
      const near = closest(given, roles.keys())
      context.find(
        'unknown_role',
        `Unknown role ${quote(given)} in "${list}[${context.index}]"${near ? ` (did you mean "${near}"?)` : ''}; known are ${[...roles.keys()].join(', ')}`,
        context.field(key),
      )
    } else if (context.isThere(turn, key, 'a string')) {
      const field = context.field(key)
      context.find('wrong_type', `"${field}" must be a string, not ${typeName(given)}`, field)
    }
    return null
  }

  return {
    name,
    traits: `${list} with ${roleKey} and ${textKey}`,

    recognises: (row) => row[list] !== undefined,

    read(row, context) {
      context.unknownKeys(row, rowKeys)
      const system = context.optional(row, systemKey, PART.system)
      const tools = readTools(row[toolsKey], toolsKey, context)
      const given = row[list]
      if (!Array.isArray(given)) {
        if (given === null) context.find('null_value', `"${list}" is null; it must be an array of turns`, list)
        else context.find('wrong_type', `"${list}" must be an array of turns, not ${typeName(given)}`, list)
        return null
      }
      if (given.length === 0) context.find('empty_conversation', `"${list}" has no turns`, list)
      const turns: Turn[] = system ? [{ role: 'system', content: system, field: systemKey }] : []
      context.list = list
      for (let i = 0; i < given.length; i++) {
        context.index = i
        const turn = readTurn(given[i], context)
        if (turn) turns.push(turn)
      }
      context.list = null
      if (context.failed) return null
      return tools ? { turns, tools } : { turns }
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
      const system = row[systemKey]
      return {
        ...(typeof system === 'string' && { [systemKey]: shorten(system, PREVIEW_CHARACTERS) }),
        [list]: turns,
      }
    },
  }
}

export const sharegpt = (columns: ColumnMap = {}, tags: TagMap = {}) =>
  chat('sharegpt', { list: 'conversations', role: 'from', text: 'value' }, columns, tags)
export const openai = (columns: ColumnMap = {}, tags: TagMap = {}) =>
  chat('openai', { list: 'messages', role: 'role', text: 'content' }, columns, tags)

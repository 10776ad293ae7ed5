import { PART, type RowContext } from '../row-context.ts'
import { isObject, typeName } from '../words.ts'

/** Function descriptions nest less deep than this; more would overflow the stack of whoever writes them out again. */
const MAX_DEPTH = 64

/** Texts of tools that were read without fault: many rows have the same. */
const read = new Map<string, unknown[] | undefined>()
const MAX_READ = 256
const MAX_READ_CHARACTERS = 16_384

/** Function descriptions: an array of them, or the same as JSON text. "" and [] are none. */
export function readTools(given: unknown, key: string, context: RowContext): unknown[] | undefined {
  if (given === undefined || given === null || given === '') return undefined
  const bad = (why: string) => context.find('invalid_tools', `"${key}" ${why}`, key)
  let tools = given
  if (typeof given === 'string') {
    context.text(given, key, PART.tools)
    const known = read.get(given)
    if (known !== undefined) return known
    if (context.words === 0) return undefined
    try {
      tools = JSON.parse(given)
    } catch {
      bad('is a string that is not JSON; it must hold an array of function descriptions')
      return undefined
    }
    if (tools === null || tools === '') return undefined
  }
  const problem = problemOf(tools)
  if (problem !== null) {
    bad(problem)
    return undefined
  }
  const described = tools as unknown[]
  // The same question with other tools at hand is another question.
  if (typeof given !== 'string') context.text(JSON.stringify(described), key, PART.tools)
  const result = described.length > 0 ? described : undefined
  if (typeof given === 'string' && result && given.length <= MAX_READ_CHARACTERS) {
    if (read.size >= MAX_READ) read.clear()
    read.set(given, result)
  }
  return result
}

/** Whether a text describes tools, or none; null when it must be read to know. */
export function describesTools(text: string): boolean | null {
  if (text === '[]') return false
  return read.has(text) ? true : null
}

function problemOf(tools: unknown): string | null {
  if (!Array.isArray(tools)) return `must be an array of function descriptions, not ${typeName(tools)}`
  if (!tools.every(isObject)) return 'must hold objects: one function description each'
  return unwritable(tools)
}

/** OpenAI's tool_calls as the text that the assistant is to write: one {"name", "arguments"} a line; null without any. */
export function renderToolCalls(calls: unknown, key: string, context: RowContext): string | null {
  if (calls === undefined || calls === null) return null
  const bad = (why: string) => {
    const field = context.field(key)
    context.find('wrong_type', `"tool_calls" beside "${field}" ${why}`, field)
    return null
  }
  if (!Array.isArray(calls)) return bad(`must be an array, not ${typeName(calls)}`)
  const lines: string[] = []
  for (const call of calls) {
    const target = isObject(call) && isObject(call.function) ? call.function : call
    if (!isObject(target) || typeof target.name !== 'string') return bad('must hold objects with function.name')
    const args = typeof target.arguments === 'string' ? parsedOr(target.arguments) : target.arguments
    const problem = unwritable(target.name) ?? unwritable(args)
    if (problem) return bad(problem)
    lines.push(JSON.stringify({ name: target.name, arguments: args ?? {} }))
  }
  return lines.length > 0 ? lines.join('\n') : null
}

function parsedOr(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** Why a value can't be written out again as the JSON it came from; null when it can. */
function unwritable(value: unknown, depth = MAX_DEPTH): string | null {
  if (typeof value === 'string') return /\p{Cs}/u.test(value) ? 'holds half of a surrogate pair' : null
  if (typeof value === 'number') return Number.isFinite(value) ? null : 'holds a number that is out of range'
  if (typeof value !== 'object' || value === null) return null
  if (depth === 0) return `is nested deeper than ${MAX_DEPTH} levels`
  for (const [key, inner] of Object.entries(value)) {
    const problem = unwritable(key) ?? unwritable(inner, depth - 1)
    if (problem) return problem
  }
  return null
}

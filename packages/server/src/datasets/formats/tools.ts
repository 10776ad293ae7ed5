import type { RowContext } from '../row-context.ts'
import { isObject, typeName } from '../words.ts'

/** Function descriptions nest less deep than this; more would overflow the stack of whoever writes them out again. */
const MAX_DEPTH = 64

/** `tools`: an array of function descriptions, or the same as JSON text. "" and [] are none. */
export function readTools(given: unknown, context: RowContext): unknown[] | undefined {
  const bad = (why: string) => context.find('invalid_tools', `"tools" ${why}`, 'tools')
  let tools = given
  if (typeof given === 'string' && given.trim() !== '') {
    const text = context.text(given, 'tools') as string
    try {
      tools = JSON.parse(text)
    } catch {
      bad('is a string that is not JSON; it must hold an array of function descriptions')
      return undefined
    }
  }
  if (tools === undefined || tools === null || typeof tools === 'string') return undefined
  if (!Array.isArray(tools)) bad(`must be an array of function descriptions, not ${typeName(tools)}`)
  else if (!tools.every(isObject)) bad('must hold objects: one function description each')
  else {
    const problem = unwritable(tools)
    if (problem === null) return tools.length > 0 ? tools : undefined
    bad(problem)
  }
  return undefined
}

/** OpenAI's tool_calls as the text that the assistant is to write: one {"name", "arguments"} a line; null without any. */
export function renderToolCalls(calls: unknown, field: string, context: RowContext): string | null {
  if (calls === undefined || calls === null) return null
  const bad = (why: string) => {
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

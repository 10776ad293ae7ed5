/**
 * tool_choice "required", or a function's name: the whole answer is one call, {"name", "arguments"} with the arguments of its
 * JSON schema, to which the engine holds the model token by token as to a response_format. That is the line that models
 * learn here from rows with tool_calls; those with tags of their own around it (Hermes, Qwen) are held to what is between them.
 */
import { type ChatCompletionRequest, ServiceError } from '@mlx-training/contract'
import type { ResponseFormat } from '../providers/port.ts'
import { responseFormat } from '../providers/response-format.ts'
import { refused } from './request.ts'

type Schema = Record<string, unknown>
type Choice = ChatCompletionRequest['tool_choice']

/** As the chat template shows it. */
export interface Tool {
  function: { name: string; parameters?: object }
}

const SHARED = ['$defs', 'definitions'] as const
const AS_FORMAT = 'response_format.json_schema.schema'

export const isForced = (choice: Choice): boolean => choice != null && choice !== 'auto' && choice !== 'none'

/** What the answer must be, `tools` being all that the model is shown. ServiceError('unprocessable') that names the field. */
export function forcedFormat(choice: Choice, tools: Tool[]): ResponseFormat | undefined {
  if (!isForced(choice)) return undefined
  const callable = callableBy(choice, tools)
  const shared = new Map<string, Map<string, unknown>>()
  const anyOf = callable.map(({ function: { name, parameters } }) => ({
    type: 'object',
    properties: { name: { const: name }, arguments: argumentsOf(name, parameters, shared) },
    required: ['name', 'arguments'],
    additionalProperties: false,
  }))
  const defined = Object.fromEntries([...shared].map(([place, known]) => [place, Object.fromEntries(known)]))
  try {
    return responseFormat({ type: 'json_schema', json_schema: { schema: { ...defined, anyOf } } })
  } catch (error) {
    throw inWordsOfTools(error)
  }
}

/** What is wrong with a schema is said of the field that the client sent. */
export function inWordsOfTools(error: unknown): unknown {
  if (!(error instanceof ServiceError && error.message.startsWith(AS_FORMAT))) return error
  return refused('tools', `can not be called by force with these parameters${error.message.slice(AS_FORMAT.length)}`)
}

function callableBy(choice: Choice, tools: Tool[]): Tool[] {
  const { type, function: named } = (choice ?? {}) as { type?: unknown; function?: { name?: unknown } }
  if (choice !== 'required' && !(type === 'function' && typeof named?.name === 'string'))
    throw refused('tool_choice', 'must be auto, none, required or {"type": "function", "function": {"name"}}')
  if (tools.length === 0)
    throw refused('tool_choice', 'forces a call, and there are no tools: send some, or leave it out')
  const callable = choice === 'required' ? tools : tools.filter((tool) => tool.function.name === named?.name)
  if (callable.length === 0) throw refused('tool_choice', `names "${named?.name}", which is none of the tools`)
  return callable
}

/** As OpenAI has it, a function without parameters takes none. What parameters define for themselves moves to `shared`, the
 *  root, which their references name. */
function argumentsOf(name: string, parameters: object | undefined, shared: Map<string, Map<string, unknown>>): Schema {
  const given: Schema = { ...(parameters ?? { properties: {}, additionalProperties: false }) }
  const { $schema, $id, ...schema } = given
  if (/"\$ref":"(?!#\/(\$defs|definitions)\/)/.test(JSON.stringify(schema)))
    throw refused('tools', `of "${name}": a $ref can only name what is in $defs when the call is forced`)
  for (const place of SHARED) {
    const known = shared.get(place) ?? new Map<string, unknown>()
    for (const [key, value] of Object.entries(schema[place] ?? {})) {
      if (known.has(key) && JSON.stringify(known.get(key)) !== JSON.stringify(value))
        throw refused(
          'tools',
          `define "${key}" in ${place} in two ways: rename one, or name the function in tool_choice`,
        )
      shared.set(place, known.set(key, value))
    }
    delete schema[place]
  }
  return { type: 'object', ...schema }
}

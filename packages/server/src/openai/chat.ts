/** A request for a chat completion → what a provider is asked for. */
import type { ChatCompletionMessage, ChatCompletionRequest, ChatTurn, ToolCall } from '@mlx-training/contract'
import type { GenerateInput, ResponseFormat } from '../providers/port.ts'
import { responseFormat } from '../providers/response-format.ts'
import { forcedFormat } from './forced-call.ts'
import { extra, refused, sampling, unlimited } from './request.ts'

/** Of OpenAI's fields that ask for another kind of answer. Others that are not known here are ignored, as OpenAI does. */
const REFUSED: Record<string, string> = {
  functions: 'is not supported: send tools',
  function_call: 'is not supported: send tools and tool_choice',
  audio: 'is not supported: answers are text',
  web_search_options: 'is not supported',
}

/** ServiceError('unprocessable') that names a field which can't be honoured. */
export function chatInput(body: ChatCompletionRequest, local: boolean): Omit<GenerateInput, 'model'> {
  for (const [field, message] of Object.entries(REFUSED))
    if ((body as Record<string, unknown>)[field] != null) throw refused(field, message)
  if (body.top_logprobs != null && !body.logprobs) throw refused('top_logprobs', 'goes with logprobs: true')
  const tools = toolsOf(body)
  const asked = formatOf(body)
  if (asked && tools.length > 0)
    throw refused('response_format', 'can not be had with tools: an answer that keeps to it calls none')
  const format = forcedFormat(body.tool_choice, tools) ?? asked
  return {
    messages: turns(body.messages),
    prompt: null,
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? unlimited(local),
    ...sampling(body),
    extra: {
      ...extra(body, body.logprobs ? (body.top_logprobs ?? 0) : null),
      ...(tools.length > 0 && { tools }),
      ...(format && { response_format: format }),
    },
  }
}

/** The tools that the model is to know, as it is shown them; none with tool_choice "none". */
export function toolsOf({ tools, tool_choice: choice }: ChatCompletionRequest) {
  if (choice === 'none') return []
  return (tools ?? []).map(({ type, function: { name, description, parameters } }) => ({
    type,
    function: { name, ...(description != null && { description }), ...(parameters && { parameters }) },
  }))
}

function formatOf({ response_format: asked }: ChatCompletionRequest): ResponseFormat | undefined {
  const { name, description, schema, strict } = asked?.json_schema ?? {}
  if (asked?.type !== 'json_schema') return responseFormat(asked ? { type: asked.type } : undefined)
  if (!schema) throw refused('response_format.json_schema.schema', 'is needed')
  const json_schema = { ...(name && { name }), ...(description && { description }), schema, strict: strict ?? null }
  return responseFormat({ type: 'json_schema', json_schema })
}

/** Turns as chat templates take them: text, arguments of calls as objects, results of tools with their tool's name. */
function turns(messages: ChatCompletionMessage[]): ChatTurn[] {
  const called = new Map<string, string>()
  return messages.map((message, i) => {
    const { role, tool_call_id: id } = message
    const calls = role === 'assistant' ? (message.tool_calls ?? []) : []
    for (const call of calls) called.set(call.id, call.function.name)
    const content = textOf(message, i)
    if (content === null && calls.length === 0) throw refused(`messages.${i}.content`, 'is needed')
    const name = role === 'tool' ? (message.name ?? called.get(id ?? '')) : undefined
    return {
      role: role === 'developer' ? 'system' : role,
      content: content ?? '',
      ...(calls.length > 0 && { tool_calls: calls.map(asObject) }),
      ...(role === 'tool' && id && { tool_call_id: id }),
      ...(name && { name }),
    }
  })
}

function textOf({ content }: ChatCompletionMessage, i: number): string | null {
  if (!Array.isArray(content)) return content ?? null
  const texts = content.map(({ type, text }, part) => {
    if (type === 'text' && text !== undefined) return text
    const field = `messages.${i}.content.${part}`
    throw type === 'text'
      ? refused(`${field}.text`, 'is needed')
      : refused(
          `${field}.type`,
          `must be text, not ${JSON.stringify(type.slice(0, 100))}: the models here read text alone`,
        )
  })
  return texts.join('')
}

function asObject(call: NonNullable<ChatCompletionMessage['tool_calls']>[number]): ToolCall {
  const { name, arguments: text } = call.function
  return { id: call.id, type: 'function', function: { name, arguments: parsed(text) } }
}

function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return value !== null && typeof value === 'object' ? value : text
  } catch {
    return text
  }
}

import { type DatasetFormat, ServiceError } from '@mlx-training/contract'
import type { Conversation } from '../../formats/format.ts'
import type { JsonObject } from '../../words.ts'
import type { Repair } from './repair.ts'

/** Writes a conversation in another format; a text says why it has no place there. */
type Writer = (conversation: Conversation) => JsonObject | string

const WRITERS: Partial<Record<string, Writer>> = { alpaca, sharegpt, openai, prompt_completion: promptCompletion }

/** Every row in another format. Rows with errors stay as they are. ServiceError when a row has no place in it. */
export function convertTo(format: DatasetFormat | undefined): Repair {
  const write = format && WRITERS[format]
  if (!write) {
    const message = `must be one of ${Object.keys(WRITERS).join(', ')}: what to convert to`
    throw new ServiceError('invalid_parameters', `format ${message}`, { errors: [{ field: 'format', message }] })
  }
  return ({ sample, row, examine }) => {
    const { conversation } = examine()
    if (!conversation) return null
    const written = write(conversation)
    if (typeof written === 'string')
      throw new ServiceError('invalid_parameters', `Sample ${sample} can't be ${format}: ${written}`, {
        errors: [{ field: 'format', message: `can't hold sample ${sample}: ${written}` }],
      })
    return JSON.stringify(written) === JSON.stringify(row) ? null : { row: written, what: `Written as ${format}` }
  }
}

const FROM = { system: 'system', user: 'human', assistant: 'gpt', tool: 'observation' } as const

function sharegpt({ turns, tools }: Conversation): JsonObject {
  return {
    conversations: turns.map(({ role, content, train }) => ({
      from: FROM[role],
      value: content,
      ...(train === false && { train }),
    })),
    ...(tools && { tools }),
  }
}

function openai({ turns, tools }: Conversation): JsonObject {
  return {
    messages: turns.map(({ role, content, train }) => ({ role, content, ...(train === false && { weight: 0 }) })),
    ...(tools && { tools }),
  }
}

function alpaca(conversation: Conversation): JsonObject | string {
  const [first, ...others] = conversation.turns
  const system = first?.role === 'system' ? first.content : null
  const exchanges = system === null ? conversation.turns : others
  if (conversation.tools) return 'it has tools'
  if (exchanges.some(({ train }) => train === false)) return 'it has turns that are not to be learned'
  if (exchanges.length === 0 || exchanges.length % 2 === 1) return 'it does not end with an answer to a question'
  if (exchanges.some(({ role }, i) => role !== (i % 2 === 0 ? 'user' : 'assistant')))
    return 'its turns are not questions and answers by turns'
  const texts = exchanges.map(({ content }) => content)
  const [question, answer] = texts.slice(-2) as [string, string]
  const history = Array.from({ length: texts.length / 2 - 1 }, (_, i) => texts.slice(2 * i, 2 * i + 2))
  return {
    ...(conversation.alpaca ?? { instruction: question, input: '' }),
    output: answer,
    ...(system !== null && { system }),
    ...(history.length > 0 && { history }),
  }
}

function promptCompletion({ turns, tools }: Conversation): JsonObject | string {
  const [prompt, completion] = turns
  if (turns.length !== 2 || prompt?.role !== 'user' || completion?.role !== 'assistant' || tools)
    return 'it is not one question and one answer'
  return { prompt: prompt.content, completion: completion.content }
}

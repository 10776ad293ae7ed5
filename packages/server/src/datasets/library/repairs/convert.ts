import { type DatasetFormat, ServiceError } from '@mlx-training/contract'
import type { Conversation } from '../../formats/format.ts'
import type { JsonObject } from '../../words.ts'
import type { Repair } from './repair.ts'

/** Writes a conversation in another format; a text says why it has no place there. */
type Writer = (conversation: Conversation) => JsonObject | string

const WRITERS: Record<DatasetFormat, Writer> = { alpaca, sharegpt, openai, prompt_completion: promptCompletion, text }

/** Every row in another format. Rows with errors stay as they are. ServiceError when a row has no place in it. */
export function convertTo(format: DatasetFormat | undefined): Repair {
  if (format === undefined) {
    const message = `is needed to convert: one of ${Object.keys(WRITERS).join(', ')}`
    throw new ServiceError('invalid_parameters', `format ${message}`, { errors: [{ field: 'format', message }] })
  }
  const write = WRITERS[format]
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

const UNLEARNED = 'it has turns that are not to be learned'
const NO_TURNS = 'it is text without a prompt, so that nobody says it'

/** Plain text after a prompt is an answer to a question. */
function chatOf({ raw, ...conversation }: Conversation): Conversation {
  if (!raw || raw.prompt === '') return conversation
  return {
    turns: [
      { role: 'user', content: raw.prompt, field: 'prompt' },
      { role: 'assistant', content: raw.completion, field: 'completion' },
    ],
  }
}

const FROM = { system: 'system', user: 'human', assistant: 'gpt', tool: 'observation' } as const

function sharegpt(conversation: Conversation): JsonObject | string {
  const { turns, tools } = chatOf(conversation)
  if (turns.length === 0) return NO_TURNS
  return {
    conversations: turns.map(({ role, content, train }) => ({
      from: FROM[role],
      value: content,
      ...(train === false && { train }),
    })),
    ...(tools && { tools }),
  }
}

function openai(conversation: Conversation): JsonObject | string {
  const { turns, tools } = chatOf(conversation)
  if (turns.length === 0) return NO_TURNS
  return {
    messages: turns.map(({ role, content, train }) => ({ role, content, ...(train === false && { weight: 0 }) })),
    ...(tools && { tools }),
  }
}

function alpaca(conversation: Conversation): JsonObject | string {
  const { turns, tools } = chatOf(conversation)
  if (turns.length === 0) return NO_TURNS
  const [first, ...others] = turns
  const system = first?.role === 'system' ? first.content : null
  const exchanges = system === null ? turns : others
  if (tools) return 'it has tools'
  if (exchanges.some(({ train }) => train === false)) return UNLEARNED
  if (exchanges.length === 0 || exchanges.length % 2 === 1) return 'it does not end with an answer to a question'
  if (exchanges.some(({ role }, i) => role !== (i % 2 === 0 ? 'user' : 'assistant')))
    return 'its turns are not questions and answers by turns'
  const texts = exchanges.map(({ content }) => content)
  const [question, answer] = texts.slice(-2) as [string, string]
  // Alpaca takes an empty question for a fault, and the row would be lost to training; chats only warn of an empty turn.
  if (!/\S/.test(question)) return 'its last question is empty, which Alpaca does not allow'
  const history = Array.from({ length: texts.length / 2 - 1 }, (_, i) => texts.slice(2 * i, 2 * i + 2))
  return {
    ...(conversation.alpaca ?? { instruction: question, input: '' }),
    output: answer,
    ...(system !== null && { system }),
    ...(history.length > 0 && { history }),
  }
}

function promptCompletion(conversation: Conversation): JsonObject | string {
  if (conversation.raw) return { ...conversation.raw }
  const { turns, tools } = conversation
  const [prompt, completion] = turns
  if (turns.length !== 2 || prompt?.role !== 'user' || completion?.role !== 'assistant' || tools)
    return 'it is not one question and one answer'
  if (turns.some(({ train }) => train === false)) return UNLEARNED
  return { prompt: prompt.content, completion: completion.content }
}

function text({ raw }: Conversation): JsonObject | string {
  return raw
    ? { text: raw.prompt + raw.completion }
    : 'a conversation has turns, which only a chat template makes one text of'
}

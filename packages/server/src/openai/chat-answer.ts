/** A provider's answer → a chat completion, whole or in chunks. */
import type { ChatCompletion, ChatCompletionChunk, ChatCompletionRequest, GeneratePiece } from '@mlx-training/contract'
import type { GenerateOutput } from '../providers/port.ts'
import { choicesOf, type Head, usageOf } from './answers.ts'
import { toolsOf } from './chat.ts'
import { isForced } from './forced-call.ts'
import { chatLogprobs } from './logprobs.ts'
import { type CallReader, type Read, ToolCallReader, WholeCallReader } from './tool-calls.ts'

type Delta = ChatCompletionChunk['choices'][number]['delta']

function readerFor(body: ChatCompletionRequest): CallReader | null {
  const names = toolsOf(body).map(({ function: { name } }) => name)
  if (names.length === 0) return null
  if (isForced(body.tool_choice)) return new WholeCallReader(names)
  return new ToolCallReader(names, body.parallel_tool_calls === false ? 1 : undefined)
}

export function chatCompletion(head: Head, body: ChatCompletionRequest, output: GenerateOutput): ChatCompletion {
  return {
    ...head,
    object: 'chat.completion',
    choices: choicesOf(output).map(({ text, finishReason, logprobs }, index) => {
      const reader = readerFor(body)
      const parts = reader ? [reader.add(text), reader.finish()] : [{ text, calls: [] }]
      const content = parts.map((part) => part.text).join('')
      const calls = parts.flatMap((part) => part.calls)
      return {
        index,
        message: {
          role: 'assistant',
          content: content === '' && calls.length > 0 ? null : content,
          refusal: null,
          ...(calls.length > 0 && { tool_calls: calls }),
        },
        finish_reason: calls.length > 0 ? 'tool_calls' : finishReason,
        logprobs: logprobs ? chatLogprobs(logprobs) : null,
      }
    }),
    usage: usageOf([output]),
  }
}

/** The chunks of one stream: each answer's role, its pieces, how it ended; at last the usage, where it was asked for. */
export class ChatChunks {
  readonly #head: Head
  readonly #body: ChatCompletionRequest
  readonly #withUsage: boolean
  readonly #readers = new Map<number, CallReader | null>()
  readonly #calls = new Map<number, number>()

  constructor(head: Head, body: ChatCompletionRequest) {
    this.#head = head
    this.#body = body
    this.#withUsage = body.stream_options?.include_usage ?? false
  }

  piece({ text, index, logprobs }: GeneratePiece): ChatCompletionChunk[] {
    const begun = this.#begin(index)
    const reader = this.#readers.get(index)
    const read = reader ? reader.add(text) : { text, calls: [] }
    const delta = this.#delta(index, read)
    if (!delta && !logprobs) return begun
    return [...begun, this.#chunk(index, delta ?? { content: '' }, null, logprobs ? chatLogprobs(logprobs) : null)]
  }

  end(output: GenerateOutput): ChatCompletionChunk[] {
    const chunks = choicesOf(output).flatMap(({ finishReason }, index) => {
      const begun = this.#begin(index)
      const reader = this.#readers.get(index)
      const delta = reader && this.#delta(index, reader.finish())
      const reason = this.#calls.has(index) ? 'tool_calls' : finishReason
      return [...begun, ...(delta ? [this.#chunk(index, delta)] : []), this.#chunk(index, {}, reason)]
    })
    const usage = { ...this.#common(), choices: [], usage: usageOf([output]) }
    return this.#withUsage ? [...chunks, usage] : chunks
  }

  #begin(index: number): ChatCompletionChunk[] {
    if (this.#readers.has(index)) return []
    this.#readers.set(index, readerFor(this.#body))
    return [this.#chunk(index, { role: 'assistant', content: '' })]
  }

  #delta(index: number, { text, calls }: Read): Delta | null {
    if (text === '' && calls.length === 0) return null
    const before = this.#calls.get(index) ?? 0
    if (calls.length > 0) this.#calls.set(index, before + calls.length)
    return {
      ...(text !== '' && { content: text }),
      ...(calls.length > 0 && { tool_calls: calls.map((call, i) => ({ index: before + i, ...call })) }),
    }
  }

  #chunk(
    index: number,
    delta: Delta,
    finish_reason: ChatCompletionChunk['choices'][number]['finish_reason'] = null,
    logprobs: ChatCompletionChunk['choices'][number]['logprobs'] = null,
  ): ChatCompletionChunk {
    return { ...this.#common(), choices: [{ index, delta, finish_reason, logprobs }] }
  }

  #common() {
    return { ...this.#head, object: 'chat.completion.chunk' as const, ...(this.#withUsage && { usage: null }) }
  }
}

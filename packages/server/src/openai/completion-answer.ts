/** A provider's answers to one or several prompts → a completion, whole or in chunks. */
import type { Completion, CompletionRequest, GeneratePiece } from '@mlx-training/contract'
import type { GenerateOutput } from '../providers/port.ts'
import { choicesOf, type Head, usageOf } from './answers.ts'
import { promptsOf } from './completion.ts'
import { completionLogprobs, lengthOf } from './logprobs.ts'

type Choice = Completion['choices'][number]

export function completion(head: Head, body: CompletionRequest, outputs: readonly GenerateOutput[]): Completion {
  const prompts = promptsOf(body)
  const choices = outputs.flatMap((output, i) =>
    choicesOf(output).map((choice) => ({ ...choice, before: body.echo ? (prompts[i] ?? '') : '' })),
  )
  return {
    ...head,
    object: 'text_completion',
    choices: choices.map(({ before, text, finishReason, logprobs }, index) => ({
      index,
      text: before + text,
      finish_reason: finishReason,
      logprobs: logprobs ? completionLogprobs(logprobs, 0) : null,
    })),
    usage: usageOf(outputs),
  }
}

/** The chunks of one stream. Choices are numbered through: the n answers to the first prompt, then those to the second. */
export class CompletionChunks {
  readonly #head: Head
  readonly #width: number
  readonly #withUsage: boolean
  readonly #echoed: string[] | null
  readonly #begun = new Set<number>()
  readonly #offsets = new Map<number, number>()

  constructor(head: Head, body: CompletionRequest) {
    this.#head = head
    this.#width = body.n ?? 1
    this.#withUsage = body.stream_options?.include_usage ?? false
    this.#echoed = body.echo ? promptsOf(body) : null
  }

  piece({ text, index, logprobs = [] }: GeneratePiece): Completion[] {
    const offset = this.#offsets.get(index) ?? 0
    this.#offsets.set(index, offset + lengthOf(logprobs))
    const told = logprobs.length > 0 ? completionLogprobs(logprobs, offset) : null
    return [this.#chunk({ index, text: this.#echo(index) + text, finish_reason: null, logprobs: told })]
  }

  end(outputs: readonly GenerateOutput[]): Completion[] {
    const chunks = outputs
      .flatMap(choicesOf)
      .map(({ finishReason }, index) =>
        this.#chunk({ index, text: this.#echo(index), finish_reason: finishReason, logprobs: null }),
      )
    return this.#withUsage ? [...chunks, { ...this.#common(), choices: [], usage: usageOf(outputs) }] : chunks
  }

  #echo(index: number): string {
    if (this.#begun.has(index)) return ''
    this.#begun.add(index)
    return this.#echoed?.[Math.floor(index / this.#width)] ?? ''
  }

  #chunk(choice: Choice): Completion {
    return { ...this.#common(), choices: [choice] }
  }

  #common() {
    return { ...this.#head, object: 'text_completion' as const, ...(this.#withUsage && { usage: null }) }
  }
}

import type { ErrorBody, GenerateEnd, GenerateEvent, GeneratePiece, GenerateResponse } from '@mlx-training/contract'
import { ConnectionError, errorOf } from '../errors.ts'
import type { GenerateInput } from '../requests.ts'
import { messagesOf } from '../sse.ts'
import { MINUTE, type RequestOptions, type Transport } from '../transport.ts'

/** A long answer of a large model on a CPU, after a wait for its turn. */
const TIMEOUT = 10 * MINUTE

/** `generate(request)` answers when all is there, `generate.stream(request)` as it comes. */
export interface Generate {
  (request: GenerateInput, options?: RequestOptions): Promise<GenerateResponse>
  stream(request: GenerateInput, options?: RequestOptions): AnswerStream
}

export function createGenerate(transport: Transport): Generate {
  const call = { timeout: TIMEOUT, method: 'POST', path: '/generate' } as const
  const generate = (request: GenerateInput, options: RequestOptions = {}) =>
    transport.json<GenerateResponse>({ ...call, ...options, json: request })
  const stream = (request: GenerateInput, options: RequestOptions = {}) =>
    new AnswerStream(() => transport.send({ ...call, ...options, json: { ...request, stream: true } }), options.signal)
  return Object.assign(generate, { stream })
}

/** Pieces of an answer. Leaving the loop, or aborting the signal, ends the generation on the server. */
export class AnswerStream implements AsyncIterable<GeneratePiece> {
  readonly #open: () => Promise<Response>
  readonly #signal: AbortSignal | undefined
  #end: GenerateEnd | null = null

  constructor(open: () => Promise<Response>, signal: AbortSignal | undefined) {
    this.#open = open
    this.#signal = signal
  }

  /** Why it ended and what it took: there once the loop is through. */
  get end(): GenerateEnd | null {
    return this.#end
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratePiece, void> {
    try {
      const { body } = await this.#open()
      if (!body) throw new ConnectionError('POST /generate: the answer has no body')
      for await (const { event, data } of messagesOf(body)) {
        if (event === 'error') throw errorOf((JSON.parse(data) as ErrorBody).status_code, data)
        const piece = JSON.parse(data) as GenerateEvent
        if ('usage' in piece) this.#end = piece
        else yield piece
      }
      if (!this.#end) throw new ConnectionError('POST /generate: the answer broke off')
    } catch (error) {
      if (this.#signal?.aborted) throw this.#signal.reason
      throw error
    }
  }

  /** The whole text of the first answer; `onText` gets its pieces as they come. */
  async text(onText?: (piece: string) => void): Promise<string> {
    let text = ''
    for await (const piece of this) {
      if (piece.index !== 0) continue
      text += piece.text
      onText?.(piece.text)
    }
    return text
  }
}

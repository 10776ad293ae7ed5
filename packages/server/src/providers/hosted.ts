import { type ChatMessage, type GeneratePiece, ServiceError } from '@mlx-training/contract'
import { type ApiError, pauseOf, type Remote, toServiceError } from './failures.ts'
import type { GenerateInput, GenerateOutput, Provider } from './port.ts'
import { type RetryOptions, retried } from './retry.ts'
import { createTransport, type Limits } from './transport.ts'

/** Limits of one answer of a hosted provider. */
export interface HostedOptions extends RetryOptions, Limits {
  /** Of a whole answer, retries included. */
  totalMs: number
}

/** What a try has to work with. */
export interface Try {
  apiKey: string
  fetch: typeof fetch
  signal: AbortSignal
  /** Whether pieces are wanted as they come; otherwise none, and only the whole. */
  streamed: boolean
  /** Whether what came so far ends with `[DONE]`, which the SDK keeps to itself. */
  ended: () => boolean
}

/** One try at an answer. Throws what the SDK throws. */
export type Attempt = (input: GenerateInput, given: Try) => AsyncGenerator<GeneratePiece, GenerateOutput>

export function needKey({ name, apiKey, keyVariable }: Remote): string {
  if (apiKey !== null) return apiKey
  throw new ServiceError('unavailable', `${name} is not set up: set ${keyVariable}`, { reason: 'no_key' })
}

/** `generate` and `stream` of a hosted provider: limits, retries, and errors as the port says, in this one place. The SDKs' own
 *  retries are off: they don't know of pieces that were passed on, nor of the time that is left.
 *  @param prepare refuses what the provider can't do, before anything else is said of it */
export function hosted(
  remote: Remote,
  options: HostedOptions,
  prepare: (input: GenerateInput) => GenerateInput,
  attempt: Attempt,
): Pick<Provider, 'generate' | 'stream'> {
  async function* answer(
    asked: GenerateInput,
    signal: AbortSignal,
    streamed: boolean,
  ): AsyncGenerator<GeneratePiece, GenerateOutput> {
    const input = prepare(asked)
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), options.totalMs)
    const end = performance.now() + options.totalMs
    const both = AbortSignal.any([signal, deadline.signal])
    try {
      const apiKey = needKey(remote)
      // A plain answer begins when it is complete: the deadline is its limit, and comes first.
      const limits = streamed ? options : { ...options, firstByteMs: 2 * options.totalMs }
      let tail = ''
      const fetch = createTransport(apiKey, limits, (bytes) => {
        tail = (tail + Buffer.from(bytes.subarray(-32)).toString('latin1')).slice(-32)
      })
      const ended = () => /(^|\n|\r)data: ?\[DONE\]\s*$/.test(tail)
      return yield* retried(
        () => attempt(input, { apiKey, fetch, signal: both, streamed, ended }),
        options,
        (error) => pauseOf(error, remote),
        () => end - performance.now(),
        both,
      )
    } catch (error) {
      if (error instanceof ServiceError) throw error
      if (signal.aborted) throw cancelled(signal)
      if (deadline.signal.aborted)
        throw new ServiceError(
          'provider_timeout',
          `${remote.name} gave no whole answer within ${options.totalMs / 1000} s`,
          {
            reason: 'timeout',
          },
        )
      throw toServiceError(error as ApiError, remote, input.model)
    } finally {
      clearTimeout(timer)
    }
  }
  return {
    stream: (input, signal) => answer(input, signal, true),
    async generate(input, signal) {
      const pieces = answer(input, signal, false)
      let next = await pieces.next()
      while (!next.done) next = await pieces.next()
      return next.value
    },
  }
}

export const cancelled = (signal: AbortSignal): ServiceError =>
  signal.reason instanceof ServiceError ? signal.reason : new ServiceError('timeout', 'The request was cancelled')

/** The turns of a conversation that hosted APIs take without the id of a tool call. */
export function turns(
  messages: readonly ChatMessage[],
): { role: Exclude<ChatMessage['role'], 'tool'>; content: string }[] {
  return messages.map(({ role, content }, i) => {
    if (role !== 'tool') return { role, content }
    const message =
      'hosted providers need the id of a tool call, which a turn here does not carry: send it as a user turn'
    throw new ServiceError('invalid_parameters', `messages.${i}.role: ${message}`, {
      errors: [{ field: `messages.${i}.role`, message, given: role }],
    })
  })
}

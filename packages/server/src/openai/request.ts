/** What chat completions and completions have in common: OpenAI's fields → what a provider is asked for. */
import { type ChatCompletionRequest, type CompletionRequest, ServiceError } from '@mlx-training/contract'
import type { Extra, GenerateInput } from '../providers/port.ts'

type Asked = Pick<ChatCompletionRequest, Exclude<keyof ChatCompletionRequest & keyof CompletionRequest, 'logprobs'>>

/** A hosted model's context is not known here, and not every provider takes more than it has. */
const HOSTED_MAX_TOKENS = 4096
const LOCAL_MAX_TOKENS = 131_072

/** As OpenAI: without max_tokens an answer may fill what is left of the context window, to which the engine holds it. */
export const unlimited = (local: boolean): number => (local ? LOCAL_MAX_TOKENS : HOSTED_MAX_TOKENS)

export function sampling(body: Asked): Pick<GenerateInput, 'temperature' | 'topP' | 'stop' | 'seed'> {
  if (Object.keys(body.logit_bias ?? {}).length > 0) throw refused('logit_bias', 'is not supported: leave it out')
  return {
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    stop: body.stop == null ? [] : [body.stop].flat(),
    seed: body.seed == null ? null : folded(body.seed),
  }
}

/** Seeds of 63 bits come as rounded numbers, more than what is behind takes: their rest by the largest prime of 32 bits. */
const folded = (seed: number) => (Number.isSafeInteger(seed) ? seed : seed % 4_294_967_291)

/** `logprobs`: so many beside each token; null: none are told. */
export function extra(body: Asked, logprobs: number | null): Extra {
  const { top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, n } = body
  const given = Object.entries({ min_p, repetition_penalty, presence_penalty, frequency_penalty, n })
  return {
    ...Object.fromEntries(given.filter(([, value]) => value != null)),
    ...(top_k != null && { top_k: Math.max(0, top_k) }),
    ...(logprobs !== null && { logprobs }),
  }
}

/** A field that would not have the effect that was asked for. */
export const refused = (field: string, message: string): ServiceError =>
  new ServiceError('unprocessable', `${field} ${message}`, { errors: [{ field, message }] })

import type {
  ChatTurn,
  FrameOf,
  GeneratePiece,
  ProviderName,
  ProviderState,
  ResponseFormat,
  TokenLogprob,
  ToolDescription,
} from '@mlx-training/contract'

export interface GenerateInput {
  /** Without the provider's prefix. */
  model: string
  messages: ChatTurn[] | null
  /** Plain text to continue (raw), when messages is null. */
  prompt: string | null
  maxTokens: number
  temperature: number
  topP: number
  stop: string[]
  seed: number | null
  /** What only some providers can do, where it was asked for. */
  extra?: Extra
}

export type { ResponseFormat }

export interface Extra {
  top_k?: number
  min_p?: number
  repetition_penalty?: number
  presence_penalty?: number
  frequency_penalty?: number
  /** So many of the likeliest tokens beside each; 0: its own log-probability alone. */
  logprobs?: number
  n?: number
  /** Descriptions of the functions that may be called, as the chat template shows them. */
  tools?: ToolDescription[]
  response_format?: ResponseFormat
}

/** content_filter: the provider withheld the rest. null: another reason, or none told. */
export type FinishReason = 'stop' | 'length' | 'content_filter' | null

export interface Choice {
  text: string
  finishReason: FinishReason
  logprobs?: TokenLogprob[]
}

export interface GenerateOutput {
  text: string
  /** As the provider names it. */
  model: string
  /** Of all answers; a streamed answer whose provider tells no usage is counted by its pieces. */
  tokensGenerated: number
  promptTokens: number | null
  finishReason: FinishReason
  /** Of the prompt, computed before; a provider that doesn't tell leaves it out. */
  cachedTokens?: number
  timing?: FrameOf<'done'>['timing']
  /** All n answers, from a provider that takes n or logprobs. */
  choices?: Choice[]
}

export interface Availability {
  available: boolean
  state: ProviderState
  /** Why not, and what to set. */
  reason?: string
  /** RFC 3339; null before the first time. */
  checkedAt: string | null
  /** Names of models, where known. */
  models?: string[]
}

/** One source of text. Errors are ServiceErrors with a reason: bad_key, forbidden and quota 502, rate_limit 429,
 *  model_not_found 404, context_too_long and content_refused 400, timeout 504, unreachable and overloaded 503. Nothing of a
 *  key is ever in them. */
export interface Provider {
  readonly name: ProviderName
  /** What is known now; never waits. */
  availability(): Availability
  generate(input: GenerateInput, signal: AbortSignal): Promise<GenerateOutput>
  /** The same piece by piece; what `generate` would have given is the generator's return value. */
  stream(input: GenerateInput, signal: AbortSignal): AsyncGenerator<GeneratePiece, GenerateOutput>
}

import type { ChatMessage, FrameOf, GeneratePiece, ProviderName, TokenLogprob } from '@mlx-training/contract'

export interface GenerateInput {
  /** Without the provider's prefix. */
  model: string
  messages: ChatMessage[] | null
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

export interface Extra {
  top_k?: number
  min_p?: number
  repetition_penalty?: number
  presence_penalty?: number
  frequency_penalty?: number
  /** So many of the likeliest tokens beside each; 0: its own log-probability alone. */
  logprobs?: number
  n?: number
}

export interface Choice {
  text: string
  finishReason: 'stop' | 'length' | null
  logprobs?: TokenLogprob[]
}

export interface GenerateOutput {
  text: string
  /** As the provider names it. */
  model: string
  /** Of all answers. */
  tokensGenerated: number
  promptTokens: number | null
  finishReason: 'stop' | 'length' | null
  /** Of the prompt, computed before; a provider that doesn't tell leaves it out. */
  cachedTokens?: number
  timing?: FrameOf<'done'>['timing']
  /** All n answers, from a provider that takes n or logprobs. */
  choices?: Choice[]
}

export interface Availability {
  available: boolean
  /** Why not, and what to set. */
  reason?: string
}

/** One source of text. Errors are ServiceErrors: wrong key 502, rate limit 429, model not found 404, context too long 400,
 *  timeout 504, unreachable 503. Nothing of a key is ever in them. */
export interface Provider {
  readonly name: ProviderName
  availability(): Promise<Availability>
  generate(input: GenerateInput, signal: AbortSignal): Promise<GenerateOutput>
  /** The same piece by piece; what `generate` would have given is the generator's return value. */
  stream(input: GenerateInput, signal: AbortSignal): AsyncGenerator<GeneratePiece, GenerateOutput>
}

import type { ChatMessage, ProviderName } from '@mlx-training/contract'

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
}

export interface GenerateOutput {
  text: string
  /** As the provider names it. */
  model: string
  tokensGenerated: number
  promptTokens: number | null
  finishReason: 'stop' | 'length' | null
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
}

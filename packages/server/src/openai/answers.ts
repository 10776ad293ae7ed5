/** What is common to answers and chunks: who answered when, with what, and what it took. */
import { randomUUID } from 'node:crypto'
import type { Usage } from '@mlx-training/contract'
import type { GenerateOutput } from '../providers/port.ts'

export interface Head {
  id: string
  created: number
  model: string
  system_fingerprint: string | null
}

export const headOf = (kind: 'chatcmpl' | 'cmpl', model: string, fingerprint: string | null): Head => ({
  id: `${kind}-${randomUUID().replaceAll('-', '')}`,
  created: Math.floor(Date.now() / 1000),
  model,
  system_fingerprint: fingerprint,
})

/** Of all the answers together. A provider that doesn't tell its prompt's tokens counts as none. */
export function usageOf(outputs: readonly GenerateOutput[]): Usage {
  const sum = (count: (output: GenerateOutput) => number | null | undefined) =>
    outputs.reduce((total, output) => total + (count(output) ?? 0), 0)
  const prompt = sum((output) => output.promptTokens)
  const completion = sum((output) => output.tokensGenerated)
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum((output) => output.cachedTokens) },
  }
}

/** Every answer of an output: a provider that gives only one tells it beside the list. */
export const choicesOf = ({ choices, text, finishReason }: GenerateOutput) => choices ?? [{ text, finishReason }]

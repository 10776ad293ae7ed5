import type { GeneratePiece, TokenLogprob } from '@mlx-training/contract'
import type { Engine } from '../engine/port.ts'
import { atField } from '../jobs/resolve.ts'
import { cancelled } from './hosted.ts'
import { pieces } from './pieces.ts'
import type { GenerateInput, GenerateOutput, Provider, ResponseFormat } from './port.ts'
import { type WeightsDeps, weightsOf } from './weights.ts'

export interface LocalDeps extends WeightsDeps {
  engine: Pick<Engine, 'generate' | 'health'>
}

/** Base models and `fine-tuned/NAME[@step-N]` on this machine's engine. */
export function createLocalProvider({ engine, ...deps }: LocalDeps): Provider {
  return {
    name: 'local_mlx',
    availability() {
      const { state, reason } = engine.health()
      const checkedAt = new Date().toISOString()
      if (state === 'ready') return { available: true, state: 'available', checkedAt }
      return { available: false, state: 'not_ready', reason: reason ?? 'The engine is starting', checkedAt }
    },
    generate,
    stream: (input, signal) => pieces((push, inner) => generate(input, inner, push), signal),
  }

  async function generate(
    input: GenerateInput,
    signal: AbortSignal,
    push?: (piece: GeneratePiece) => void,
  ): Promise<GenerateOutput> {
    const { response_format, ...extra } = input.extra ?? {}
    const logprobs = new Map<number, TokenLogprob[]>()
    try {
      const done = await engine.generate(
        {
          ...(await atField('model', () => weightsOf(input.model, deps, signal))),
          messages: input.messages,
          prompt: input.prompt,
          max_tokens: input.maxTokens,
          temperature: input.temperature,
          top_p: input.topP,
          stop: input.stop,
          seed: input.seed,
          ...extra,
          ...(response_format && { json_schema: schemaOf(response_format) }),
        },
        {
          signal,
          onToken(text, { index, logprobs: told }) {
            const known = logprobs.get(index)
            if (told && known) known.push(...told)
            else if (told) logprobs.set(index, [...told])
            push?.({ text, index, ...(told && { logprobs: told }) })
          },
        },
      )
      if (done.finish_reason === 'cancelled') throw cancelled(signal)
      return {
        text: done.text,
        model: input.model,
        tokensGenerated: done.completion_tokens,
        promptTokens: done.prompt_tokens,
        finishReason: done.finish_reason,
        cachedTokens: done.cached_tokens,
        timing: done.timing,
        choices: done.choices.map(({ text, finish_reason }, index) => ({
          text,
          finishReason: finish_reason === 'cancelled' ? null : finish_reason,
          ...(input.extra?.logprobs !== undefined && { logprobs: logprobs.get(index) ?? [] }),
        })),
      }
    } catch (error) {
      throw signal.aborted ? cancelled(signal) : error
    }
  }
}

const schemaOf = ({ type, json_schema }: ResponseFormat) =>
  type === 'json_object' ? { type: 'object' } : json_schema?.schema

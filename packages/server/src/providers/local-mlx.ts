import { type GeneratePiece, ServiceError, type TokenLogprob } from '@mlx-training/contract'
import type { Engine } from '../engine/port.ts'
import type { JobService } from '../jobs/port.ts'
import { fineTunedFolder } from '../models/fine-tuned.ts'
import { type FineTunedName, parseFineTuned } from '../models/names.ts'
import type { Models } from '../models/port.ts'
import { cancelled } from './hosted.ts'
import { pieces } from './pieces.ts'
import type { GenerateInput, GenerateOutput, Provider, ResponseFormat } from './port.ts'

export interface LocalDeps {
  engine: Pick<Engine, 'generate' | 'health'>
  models: Pick<Models, 'resolve' | 'ensure'>
  jobs: Pick<JobService, 'get'>
}

interface Weights {
  model_path: string
  adapter_path: string | null
}

/** Base models and `fine-tuned/NAME[@step-N]` on this machine's engine. */
export function createLocalProvider({ engine, models, jobs }: LocalDeps): Provider {
  async function fineTuned({ experiment, step }: FineTunedName, signal: AbortSignal): Promise<Weights> {
    const job = await jobs.get(experiment)
    if (!job)
      throw new ServiceError(
        'not_found',
        `There is no experiment "${experiment}". GET /models lists the fine-tuned models`,
      )
    const folder = await fineTunedFolder(job, step)
    if (job.plan.method === 'full') return { model_path: folder, adapter_path: null }
    return { model_path: await models.ensure(job.plan.model, { signal }), adapter_path: folder }
  }

  async function weights(model: string, signal: AbortSignal): Promise<Weights> {
    const name = parseFineTuned(model)
    if (name) return await fineTuned(name, signal)
    return { model_path: await models.ensure(await models.resolve(model), { signal }), adapter_path: null }
  }

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
          ...(await weights(input.model, signal)),
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
            if (told) logprobs.set(index, [...(logprobs.get(index) ?? []), ...told])
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

import { type GenerateEnd, type GenerateRequest, PROVIDER_CLASS, ServiceError } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { Providers } from '../providers/index.ts'
import type { Extra, GenerateInput, GenerateOutput } from '../providers/port.ts'
import { responseFormat } from '../providers/response-format.ts'
import { clientSignal } from './client-signal.ts'
import { ownWording, streamAnswer } from './generate-stream.ts'
import { demandPaid } from './paid.ts'
import type { Handler } from './routes.ts'
import type { SseTimes } from './sse.ts'

export const generate =
  ({
    config,
    providers,
    closing,
    sseTimes,
  }: {
    config: Pick<Config, 'host'>
    providers: Providers
    closing: AbortSignal
    sseTimes?: SseTimes | undefined
  }): Handler<'generate'> =>
  async ({ body, reply, request }) => {
    demandPaid(config, request, [body])
    const asked = inputOf(body)
    const { provider, model } = providers.route(body)
    const client = clientSignal(reply, closing)
    const start = performance.now()
    const common = (output: GenerateOutput) => {
      const cost = providers.cost(provider.name, model, output)
      return {
        model: body.model ?? model,
        provider: PROVIDER_CLASS[provider.name],
        tokens_generated: output.tokensGenerated,
        generation_time_ms: Math.round(performance.now() - start),
        ...(output.timing && { timing: output.timing }),
        ...(cost && { cost }),
      }
    }
    try {
      if (body.stream) {
        const pieces = provider.stream({ ...asked, model }, client.signal)
        const endOf = (output: GenerateOutput): GenerateEnd => ({
          finish_reason: output.finishReason,
          ...(body.n !== undefined && { finish_reasons: output.choices?.map((choice) => choice.finishReason) }),
          usage: {
            prompt_tokens: output.promptTokens,
            completion_tokens: output.tokensGenerated,
            cached_tokens: output.cachedTokens ?? null,
          },
          ...common(output),
        })
        // It has written the answer itself.
        return (await streamAnswer(reply, request, pieces, ownWording(request, endOf), sseTimes)) as never
      }
      const output = await provider.generate({ ...asked, model }, client.signal)
      return {
        text: output.text,
        ...common(output),
        prompt_tokens: output.promptTokens,
        finish_reason: output.finishReason,
        ...(output.cachedTokens !== undefined && { cached_tokens: output.cachedTokens }),
        ...choicesOf(output, body),
      }
    } finally {
      client.release()
    }
  }

function choicesOf({ choices = [] }: GenerateOutput, { n, logprobs }: GenerateRequest) {
  const [first] = choices
  return {
    ...(logprobs && { logprobs: first?.logprobs ?? [] }),
    ...(n !== undefined && {
      choices: choices.map(({ text, finishReason, logprobs }) => ({
        text,
        finish_reason: finishReason,
        ...(logprobs && { logprobs }),
      })),
    }),
  }
}

function inputOf(body: GenerateRequest): Omit<GenerateInput, 'model'> {
  const { prompt, messages, system, raw } = body
  if ((prompt === undefined) === (messages === undefined))
    throw prompt === undefined
      ? wrong('prompt', 'is missing: send prompt, or messages')
      : wrong('messages', 'goes without prompt: send one of them')
  if (raw && (prompt === undefined || system !== undefined))
    throw wrong('raw', 'continues a prompt as plain text: it takes neither messages nor system')
  if (messages && system !== undefined)
    throw wrong('system', 'goes with prompt; with messages, put a message of the role system first')
  const turns = messages ?? [
    ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
    { role: 'user' as const, content: prompt ?? '' },
  ]
  return {
    messages: raw ? null : turns,
    prompt: raw ? (prompt ?? '') : null,
    maxTokens: body.max_tokens,
    temperature: body.temperature,
    topP: body.top_p,
    stop: body.stop === undefined ? [] : [body.stop].flat(),
    seed: body.seed ?? null,
    extra: extraOf(body),
  }
}

function extraOf(body: GenerateRequest): Extra {
  const { top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, n, logprobs, top_logprobs } = body
  if (top_logprobs !== undefined && !logprobs) throw wrong('top_logprobs', 'goes with logprobs: true')
  const format = responseFormat(body.response_format)
  const given = Object.entries({ top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, n })
  return {
    ...Object.fromEntries(given.filter(([, value]) => value !== undefined)),
    ...(logprobs && { logprobs: top_logprobs ?? 0 }),
    ...(format && { response_format: format }),
  }
}

const wrong = (field: string, message: string) =>
  new ServiceError('unprocessable', `${field}: ${message}`, { errors: [{ field, message }] })

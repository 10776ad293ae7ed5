import { type GenerateRequest, PROVIDER_CLASS, ServiceError } from '@mlx-training/contract'
import type { Providers } from '../providers/index.ts'
import type { GenerateInput } from '../providers/port.ts'
import { clientSignal } from './client-signal.ts'
import type { Handler } from './routes.ts'

export const generate =
  ({ providers, closing }: { providers: Providers; closing: AbortSignal }): Handler<'generate'> =>
  async ({ body, reply }) => {
    const asked = inputOf(body)
    const { provider, model } = providers.route(body)
    const client = clientSignal(reply, closing)
    const start = performance.now()
    try {
      const output = await provider.generate({ ...asked, model }, client.signal)
      return {
        text: output.text,
        model: body.model ?? model,
        provider: PROVIDER_CLASS[provider.name],
        tokens_generated: output.tokensGenerated,
        generation_time_ms: Math.round(performance.now() - start),
        prompt_tokens: output.promptTokens,
        finish_reason: output.finishReason,
      }
    } finally {
      client.release()
    }
  }

function inputOf(body: GenerateRequest): Omit<GenerateInput, 'model'> {
  const { prompt, messages, system, raw } = body
  if ((prompt === undefined) === (messages === undefined))
    throw wrong(prompt === undefined ? 'prompt' : 'messages', 'send either prompt or messages: one, not both')
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
  }
}

const wrong = (field: string, message: string) =>
  new ServiceError('unprocessable', `${field}: ${message}`, { errors: [{ field, message }] })

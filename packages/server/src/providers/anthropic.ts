import Anthropic from '@anthropic-ai/sdk'
import { ServiceError } from '@mlx-training/contract'
import { passed } from './extra.ts'
import { whole } from './pieces.ts'
import type { GenerateOutput, Provider } from './port.ts'
import { calling, type HostedOptions, keyed, needKey, providerFetch, type Remote, turns } from './wire.ts'

/** Anthropic's Messages API. It has no seed, and since version 2026-10-21 (the SDK's) no temperature and no top_p: a request
 *  that carries one is refused even at its default. They are not sent, so they have no effect here. */
export function createAnthropicProvider(remote: Remote, options: HostedOptions): Provider {
  const provider: Provider = {
    name: remote.name,
    availability: async () => keyed(remote),
    stream: (input, signal) => whole(provider.generate(input, signal)),
    async generate(input, signal) {
      const apiKey = needKey(remote)
      passed(remote.name, input, [])
      if (!input.messages) {
        const message = 'anthropic has only chat models: leave raw out'
        throw new ServiceError('invalid_parameters', `raw: ${message}`, {
          errors: [{ field: 'raw', message, given: true }],
        })
      }
      const said = turns(input.messages)
      const system = said.filter(({ role }) => role === 'system').map(({ content }) => content)
      const messages = said.flatMap(({ role, content }) => (role === 'system' ? [] : [{ role, content }]))
      const client = new Anthropic({
        apiKey,
        baseURL: remote.baseUrl,
        maxRetries: options.maxRetries,
        timeout: options.timeoutMs,
        fetch: providerFetch,
        logLevel: 'off',
        webhookKey: null,
      })
      return await calling(remote, options, signal, input.model, async (signal) => {
        const answer = await client.messages.create(
          {
            model: input.model,
            max_tokens: input.maxTokens,
            messages,
            ...(system.length && { system: system.join('\n\n') }),
            ...(input.stop.length && { stop_sequences: input.stop }),
          },
          { signal },
        )
        return {
          text: answer.content.map((block) => (block.type === 'text' ? block.text : '')).join(''),
          model: answer.model,
          tokensGenerated: answer.usage.output_tokens,
          promptTokens: answer.usage.input_tokens,
          finishReason: FINISH[answer.stop_reason ?? ''] ?? null,
        }
      })
    },
  }
  return provider
}

const FINISH: Record<string, GenerateOutput['finishReason']> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  max_tokens: 'length',
  model_context_window_exceeded: 'length',
}

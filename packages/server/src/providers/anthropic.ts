import Anthropic from '@anthropic-ai/sdk'
import { ServiceError } from '@mlx-training/contract'
import type { GenerateInput, Provider } from './port.ts'
import { calling, type HostedOptions, keyed, needKey, providerFetch, type Remote, sampled, turns } from './wire.ts'

/** Anthropic's Messages API. It has no seed, so a seed is not sent. */
export function createAnthropicProvider(remote: Remote, options: HostedOptions): Provider {
  return {
    name: remote.name,
    availability: async () => keyed(remote),
    async generate(input, signal) {
      const apiKey = needKey(remote)
      if (!input.messages) throw invalid('raw', 'anthropic has only chat models: leave raw out', true)
      if (input.temperature > 1)
        throw invalid('temperature', 'anthropic takes temperatures from 0 to 1', input.temperature)
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
      return await calling(remote, options, signal, input.model, (signal) =>
        sampled(samplingOf(input), async (sampling) => {
          const answer = await client.messages.create(
            {
              model: input.model,
              max_tokens: input.maxTokens,
              messages,
              ...(system.length && { system: system.join('\n\n') }),
              ...(input.stop.length && { stop_sequences: input.stop }),
              ...sampling,
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
        }),
      )
    },
  }
}

const FINISH: Record<string, 'stop' | 'length'> = { end_turn: 'stop', stop_sequence: 'stop', max_tokens: 'length' }

/** Models since Claude Opus 4.1 refuse temperature and top_p together, and Anthropic advises to set only one: temperature,
 *  unless that is at its default of 1. */
const samplingOf = ({ temperature, topP }: GenerateInput): { temperature?: number; top_p?: number } =>
  temperature === 1 && topP < 1 ? { top_p: topP } : { temperature }

const invalid = (field: string, message: string, given: unknown): ServiceError =>
  new ServiceError('invalid_parameters', `${field}: ${message}`, { errors: [{ field, message, given }] })

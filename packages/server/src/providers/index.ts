import {
  PROVIDER_CLASS,
  PROVIDERS,
  type ProviderName,
  type ProvidersResponse,
  ServiceError,
} from '@mlx-training/contract'
import type { Config, HostedConfig } from '../config.ts'
import type { Models } from '../models/port.ts'
import { createAnthropicProvider } from './anthropic.ts'
import { createLocalProvider, type LocalDeps } from './local-mlx.ts'
import { ollama } from './ollama.ts'
import { createOpenAIProvider } from './openai.ts'
import type { Provider } from './port.ts'
import type { HostedOptions, Remote } from './wire.ts'

const PENALTIES = ['presence_penalty', 'frequency_penalty'] as const

export interface Providers {
  get(name: ProviderName): Provider
  /** Who answers a request, and the model's name without the provider's prefix. A given provider wins over a prefix, a prefix
   *  over local_mlx, which everything else goes to. ServiceError('invalid_parameters' | 'not_found') when no model is named
   *  and the provider has no default. */
  route(request: { provider?: ProviderName; model?: string }): { provider: Provider; model: string }
  list(): Promise<ProvidersResponse>
}

export interface ProvidersDeps extends LocalDeps {
  config: Config
  models: Models
  /** Default: 120 s for an answer, 2 retries. */
  hosted?: Partial<HostedOptions>
}

export function createProviders({ config, hosted, ...local }: ProvidersDeps): Providers {
  const options: HostedOptions = { timeoutMs: 120_000, maxRetries: 2, ...hosted }
  const { openai, anthropic, together } = config.providers
  const providers: Record<ProviderName, Provider> = {
    openai: createOpenAIProvider(
      { ...remote('openai', openai), tokenLimit: 'max_completion_tokens', takes: PENALTIES },
      options,
    ),
    anthropic: createAnthropicProvider(remote('anthropic', anthropic), options),
    together: createOpenAIProvider(
      {
        ...remote('together', together),
        tokenLimit: 'max_tokens',
        takes: [...PENALTIES, 'top_k', 'min_p', 'repetition_penalty'],
      },
      options,
    ),
    ollama: createOpenAIProvider(ollama(config.providers.ollama.baseUrl), options),
    local_mlx: createLocalProvider(local),
  }

  return {
    get: (name) => providers[name],
    route({ provider: asked, model: given }) {
      const prefix = PROVIDERS.find((name) => given?.startsWith(`${name}/`))
      const name = asked ?? prefix ?? 'local_mlx'
      const model = given && prefix === name ? given.slice(name.length + 1) : given
      return { provider: providers[name], model: model || defaultModel(name, local.models) }
    },
    async list() {
      const available_providers = await Promise.all(
        PROVIDERS.map(async (name) => ({ name: PROVIDER_CLASS[name], ...(await providers[name].availability()) })),
      )
      return {
        available_providers: [...PROVIDERS],
        current_provider: { active_provider: PROVIDER_CLASS.local_mlx, available_providers },
      }
    },
  }
}

function remote(name: 'openai' | 'anthropic' | 'together', { apiKey, baseUrl }: HostedConfig): Remote {
  const variable = name.toUpperCase()
  return {
    name,
    baseUrl,
    apiKey,
    keyVariable: `${variable}_API_KEY`,
    urlVariable: `${variable}_BASE_URL`,
    modelHint: `See ${name}'s list of models`,
  }
}

function defaultModel(name: ProviderName, models: Models): string {
  if (name !== 'local_mlx')
    throw new ServiceError('invalid_parameters', `model: name one of ${name}'s models`, {
      errors: [{ field: 'model', message: `is needed with provider ${name}` }],
    })
  if (models.bundled) return models.bundled
  throw new ServiceError('not_found', 'No model was named and none is bundled: name a model, or run "npm run setup"')
}

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
import type { Remote } from './failures.ts'
import type { HostedOptions } from './hosted.ts'
import { createLocalProvider, type LocalDeps } from './local-mlx.ts'
import type { LookOptions } from './look.ts'
import { ollama } from './ollama.ts'
import { createOpenAIProvider, tokenLimitAt } from './openai.ts'
import type { Availability, Provider } from './port.ts'
import { type CostOf, loadPrices } from './prices.ts'

const PENALTIES = ['presence_penalty', 'frequency_penalty'] as const

export interface Asked {
  provider?: ProviderName | undefined
  model?: string | undefined
}

export interface Providers {
  get(name: ProviderName): Provider
  /** Who answers a request, and the model's name without the provider's prefix. A given provider wins over a prefix, a prefix
   *  over local_mlx, which everything else goes to. ServiceError('invalid_parameters' | 'not_found') when no model is named
   *  and the provider has no default. */
  route(request: Asked): { provider: Provider; model: string }
  /** What is known of all; whoever has not been asked for long is asked in the background. */
  list(): ProvidersResponse
  /** By the configured prices; undefined without one. `model` as `route` gives it. */
  cost: CostOf
}

export interface ProvidersDeps extends LocalDeps {
  config: Config
  models: Models
  /** In place of the configuration's. */
  hosted?: Partial<HostedOptions>
  look?: Partial<LookOptions>
}

const LOOK: LookOptions = { keptMs: 300_000, timeoutMs: 5000 }
/** On this machine: quick to answer, and models come and go by a command. */
const LOOK_LOCALLY: LookOptions = { keptMs: 10_000, timeoutMs: 2000 }

/** ConfigError when the prices can't be read. */
export function createProviders({ config, hosted, look, ...local }: ProvidersDeps): Providers {
  const options: HostedOptions = {
    totalMs: 1000 * config.hosted.timeoutSeconds,
    firstByteMs: 1000 * config.hosted.firstByteSeconds,
    idleMs: 1000 * config.hosted.idleSeconds,
    retries: config.hosted.retries,
    backoffMs: 500,
    maxBytes: 64 * 1024 * 1024,
    ...hosted,
  }
  const cost = loadPrices(config.pricesFile)
  const { openai, anthropic, together } = config.providers
  const providers: Record<ProviderName, Provider> = {
    openai: createOpenAIProvider(
      { ...remote('openai', openai), tokenLimit: tokenLimitAt(openai.baseUrl), takes: PENALTIES },
      options,
      { ...LOOK, ...look },
    ),
    anthropic: createAnthropicProvider(remote('anthropic', anthropic), options, { ...LOOK, ...look }),
    together: createOpenAIProvider(
      {
        ...remote('together', together),
        tokenLimit: 'max_tokens',
        takes: [...PENALTIES, 'top_k', 'min_p', 'repetition_penalty'],
      },
      options,
      { ...LOOK, ...look },
    ),
    ollama: createOpenAIProvider(ollama(config.providers.ollama.baseUrl), options, { ...LOOK_LOCALLY, ...look }),
    local_mlx: createLocalProvider(local),
  }

  return {
    get: (name) => providers[name],
    route({ provider: asked, model: given }) {
      const prefix = prefixOf(given)
      const name = providerNamed({ provider: asked, model: given })
      if (asked === undefined && prefix === undefined) refuseOtherCase(given)
      const model = given && prefix === name ? given.slice(name.length + 1) : given
      return { provider: providers[name], model: model || defaultModel(name, local.models) }
    },
    list: () => ({
      available_providers: [...PROVIDERS],
      current_provider: {
        active_provider: PROVIDER_CLASS.local_mlx,
        available_providers: PROVIDERS.map((name) => ({
          name: PROVIDER_CLASS[name],
          ...told(providers[name].availability(), config.requireAuth),
        })),
      },
    }),
    cost,
  }
}

const prefixOf = (model = '') => PROVIDERS.find((name) => model.startsWith(`${name}/`))

/** Who would answer, whether or not the model's name is one. */
export const providerNamed = ({ provider, model }: Asked): ProviderName => provider ?? prefixOf(model) ?? 'local_mlx'

/** `OpenAI/gpt-4.1` would be looked for at the hub, where nobody means it to be. */
function refuseOtherCase(model = ''): void {
  const prefix = prefixOf(model.toLowerCase())
  if (prefix === undefined) return
  const meant = `${prefix}${model.slice(prefix.length)}`
  throw new ServiceError('not_found', `There is no model "${model}": a provider is written small, as in "${meant}"`)
}

/** GET /providers is open: where a key is asked for everywhere else, it doesn't tell which models an account has. */
function told({ available, reason, state, checkedAt, models }: Availability, discreet: boolean) {
  return {
    available,
    ...(reason !== undefined && { reason }),
    state,
    checked_at: checkedAt,
    ...(models && !discreet && { models }),
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

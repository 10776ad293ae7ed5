/** Models to choose from: what is here, and what hosted providers have. */
import type { ModelInfo, ModelsResponse, ProvidersResponse } from '@mlx-training/sdk'

export interface Group {
  label: string
  models: string[]
}

export interface Choices {
  groups: Group[]
  /** Providers that can't be used, and why. */
  absent: { label: string; reason: string }[]
  /** By a fine-tuned model's name, checkpoints included. */
  bases: ReadonlyMap<string, string>
  /** What to begin with when nothing is asked for. */
  first: string | null
}

const PROVIDERS: Record<string, { prefix: string; label: string }> = {
  OpenAIProvider: { prefix: 'openai', label: 'OpenAI' },
  AnthropicProvider: { prefix: 'anthropic', label: 'Anthropic' },
  TogetherProvider: { prefix: 'together', label: 'Together' },
  OllamaProvider: { prefix: 'ollama', label: 'Ollama' },
}

export function choicesOf({ models }: ModelsResponse, { current_provider }: ProvidersResponse): Choices {
  const tuned = models.filter(({ source }) => source === 'fine_tuned')
  const bases = models.filter(({ source }) => source !== 'fine_tuned')
  const hosted = current_provider.available_providers.flatMap((provider) => {
    const known = PROVIDERS[provider.name]
    return known ? [{ ...provider, ...known }] : []
  })
  const groups = [
    { label: 'Fine-tuned here', models: tuned.flatMap(withCheckpoints) },
    { label: 'Base models', models: bases.map(({ id }) => id) },
    ...hosted.map(({ label, prefix, models = [] }) => ({ label, models: models.map((id) => `${prefix}/${id}`) })),
  ]
  return {
    groups: groups.filter((group) => group.models.length > 0),
    absent: hosted
      .filter(({ available }) => !available)
      .map(({ label, reason, state }) => ({ label, reason: reason ?? state })),
    bases: new Map(
      tuned.flatMap((model) => {
        const base = model.base_model
        return base === null ? [] : withCheckpoints(model).map((name) => [name, base] as const)
      }),
    ),
    first: tuned[0]?.id ?? bases[0]?.id ?? null,
  }
}

const withCheckpoints = ({ id, checkpoints }: ModelInfo) => [id, ...checkpoints]

/** A tuned model stands beside its base, so that one sees what training did. */
export function besideBase(models: readonly string[], { bases }: Pick<Choices, 'bases'>): string[] {
  const [only] = models
  const base = only === undefined ? undefined : bases.get(only)
  return models.length === 1 && base !== undefined ? [base, ...models] : [...models]
}

/** What people call it, and where it is from. */
export function naming(model: string): { name: string; kind: string } {
  if (model.startsWith('fine-tuned/')) {
    const name = model.slice('fine-tuned/'.length)
    return { name, kind: name.includes('@') ? 'checkpoint' : 'tuned' }
  }
  for (const { prefix, label } of Object.values(PROVIDERS))
    if (model.startsWith(`${prefix}/`)) return { name: model.slice(prefix.length + 1), kind: label }
  return { name: model, kind: 'base' }
}

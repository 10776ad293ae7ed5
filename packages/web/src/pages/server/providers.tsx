import type { ProviderState, ProvidersResponse } from '@mlx-training/sdk'
import { Badge, type Tone } from '../../components/badge.tsx'
import { Card } from '../../components/facts.tsx'
import { ago, count } from '../../format.ts'
import { can } from '../../session.ts'

type Provider = ProvidersResponse['current_provider']['available_providers'][number]

const STATES: Record<ProviderState, { text: string; tone: Tone }> = {
  available: { text: 'available', tone: 'good' },
  unchecked: { text: 'not asked yet', tone: 'neutral' },
  no_key: { text: 'no key', tone: 'neutral' },
  bad_key: { text: 'key refused', tone: 'bad' },
  unreachable: { text: 'unreachable', tone: 'warning' },
  not_ready: { text: 'not ready', tone: 'warning' },
}
const LOCAL = 'LocalMLXProvider'
const NAMES: Record<string, { label: string; prefix: string }> = {
  [LOCAL]: { label: 'MLX, on this server', prefix: '' },
  OpenAIProvider: { label: 'OpenAI', prefix: 'openai/' },
  AnthropicProvider: { label: 'Anthropic', prefix: 'anthropic/' },
  TogetherProvider: { label: 'Together', prefix: 'together/' },
  OllamaProvider: { label: 'Ollama', prefix: 'ollama/' },
}

const localFirst = (a: Provider, b: Provider) => Number(b.name === LOCAL) - Number(a.name === LOCAL)

export function Providers({ providers }: { providers: readonly Provider[] }) {
  return (
    <Card title="Providers">
      <ul class="server-lines">
        {providers.toSorted(localFirst).map((provider) => (
          <Line key={provider.name} provider={provider} />
        ))}
      </ul>
    </Card>
  )
}

function Line({ provider: { name, state, reason, checked_at, models = [] } }: { provider: Provider }) {
  const { label, prefix } = NAMES[name] ?? { label: name, prefix: '' }
  const { text, tone } = STATES[state]
  return (
    <li>
      <div class="row server-between">
        <span class="server-provider">{label}</span>
        <span class="row">
          {checked_at && prefix !== '' && <span class="muted small">asked {ago(checked_at)}</span>}
          <Badge tone={tone}>{text}</Badge>
        </span>
      </div>
      {reason && <p class="muted small">{reason}</p>}
      {models.length > 0 && (
        <details class="server-provider-models">
          <summary>
            {count(models.length)} {models.length === 1 ? 'model' : 'models'}
          </summary>
          <ul>
            {models.map((model) => (
              <li key={model}>
                {can('generate') ? (
                  <a href={`/playground?${new URLSearchParams({ model: prefix + model })}`}>{model}</a>
                ) : (
                  model
                )}
              </li>
            ))}
          </ul>
        </details>
      )}
    </li>
  )
}

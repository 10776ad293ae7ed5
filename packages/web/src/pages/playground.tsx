import '../styles/playground.css'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Button } from '../components/button.tsx'
import { PageHead } from '../components/page-head.tsx'
import { EmptyState, ErrorState, Skeleton } from '../components/states.tsx'
import { useFresh } from '../live/fresh.ts'
import { navigate, query } from '../router.ts'
import { useTitle } from '../title.ts'
import { CodeDialog } from './playground/code-dialog.tsx'
import { Columns } from './playground/columns.tsx'
import { Composer } from './playground/composer.tsx'
import { announcement, begin, clear, columns, draft, running, turns } from './playground/conversation.ts'
import { useFollowing } from './playground/following.ts'
import { besideBase, type Choices, choicesOf } from './playground/models.ts'
import { SettingsPanel } from './playground/settings-panel.tsx'
import { Turn } from './playground/turn.tsx'

/** Trainings end, and models of providers are not known at once. */
const EVERY_MS = 10_000
/** Where there is room beside the answers. */
const WIDE = '(min-width: 1100px)'

export default function Page() {
  useTitle('Playground')
  const { data, error, reload } = useFresh(async (client, signal) => {
    const options = { signal, maxRetries: 0 }
    const [models, providers] = await Promise.all([client.models(options), client.providers(options)])
    return choicesOf(models, providers)
  }, EVERY_MS)
  const [settings, setSettings] = useState(() => window.matchMedia(WIDE).matches)
  const [code, setCode] = useState(false)
  useAddress(data)
  return (
    <>
      <PageHead
        title="Playground"
        lead="Ask base, tuned and hosted models the same, side by side"
        actions={
          data && (
            <>
              <Button icon="trash" variant="ghost" disabled={turns.value.length === 0} onClick={clear}>
                Clear
              </Button>
              <Button icon="code" disabled={columns.value.length === 0} onClick={() => setCode(true)}>
                Code
              </Button>
              <Button icon="sliders" expanded={settings} onClick={() => setSettings(!settings)}>
                Settings
              </Button>
            </>
          )
        }
      />
      {data ? (
        <div class={settings ? 'playground with-settings' : 'playground'}>
          {settings && <SettingsPanel />}
          <div class="chat-conversation">
            <Columns choices={data} />
            <Conversation choices={data} />
            <Composer />
          </div>
        </div>
      ) : error ? (
        <ErrorState error={error} onRetry={reload} />
      ) : (
        <Skeleton lines={6} />
      )}
      <p class="visually-hidden" role="status">
        {announcement.value}
      </p>
      {code && <CodeDialog onClose={() => setCode(false)} />}
    </>
  )
}

/** `?model=…&model=…` says which models; changes here are written there, so that the address can be kept and sent on. */
function useAddress(choices: Choices | null): void {
  const written = useRef<string | null>(null)
  const named = query.value.getAll('model')
  const address = JSON.stringify(named)
  const shown = JSON.stringify(columns.value.map(({ model }) => model))
  useEffect(() => {
    if (!choices || written.current === address) return
    written.current = address
    if (address === shown) return
    if (named.length > 0) begin(besideBase(named, choices))
    else if (columns.value.length === 0 && choices.first) begin(besideBase([choices.first], choices))
  }, [choices, address])
  useEffect(() => {
    if (!choices || shown === address || columns.value.length === 0) return
    written.current = shown
    const models = columns.value.map(({ model }) => ['model', model])
    navigate(`/playground?${new URLSearchParams(models)}`, { replace: true })
  }, [choices, shown])
}

const EXAMPLES = [
  'What does a learning rate do?',
  'Explain LoRA in two sentences.',
  'Write a haiku about gradient descent.',
]

function Conversation({ choices }: { choices: Choices }) {
  const end = useFollowing(running.value)
  const shown = turns.value
  if (columns.value.length === 0)
    return (
      <EmptyState
        icon="chat"
        title={choices.groups.length === 0 ? 'There is no model here yet' : 'Choose a model'}
        text={
          choices.groups.length === 0
            ? 'Run “npm run setup” on the server to get the bundled one, or name a model of the Hugging Face hub.'
            : 'Up to four answer side by side.'
        }
      />
    )
  if (shown.length === 0)
    return (
      <EmptyState
        icon="chat"
        title="Ask one question, see every answer"
        text="Each model answers on its own, as fast as it can. What was said before is sent with the next question."
      >
        <div class="row chat-examples">
          {EXAMPLES.map((example) => (
            <Button
              key={example}
              size="small"
              onClick={() => {
                draft.value = example
                document.getElementById('playground-message')?.focus()
              }}
            >
              {example}
            </Button>
          ))}
        </div>
      </EmptyState>
    )
  return (
    <div class="chat-turns">
      {shown.map((turn, i) => (
        <Turn key={turn.id} turn={turn} last={i === shown.length - 1} />
      ))}
      <div ref={end} />
    </div>
  )
}

/** API keys: who may do what, and until when. */
import type { KeyInfo, Scope } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Badge } from '../../components/badge.tsx'
import { Button } from '../../components/button.tsx'
import { confirm } from '../../components/dialog.tsx'
import { Card, Facts } from '../../components/facts.tsx'
import { EmptyState, ErrorState, Skeleton } from '../../components/states.tsx'
import { type Column, Table } from '../../components/table.tsx'
import { toast, toastError } from '../../components/toast.tsx'
import { ago, moment } from '../../format.ts'
import { useFresh } from '../../live/fresh.ts'
import { useLoad } from '../../live/load.ts'
import { client } from '../../session.ts'
import { CreateKey } from './create-key.tsx'

const EVERY_MS = 10_000
const SOON_MS = 7 * 86_400_000

export function Keys() {
  const [creating, setCreating] = useState(false)
  const { data, error, reload } = useFresh(async (client, signal) => {
    const options = { signal, maxRetries: 0 }
    const [{ keys }, own] = await Promise.all([client.keys.list(options), client.keys.own(options)])
    return { keys, own }
  }, EVERY_MS)
  const create = () => setCreating(true)
  return (
    <>
      <Card
        flush
        title="API keys"
        actions={
          <Button variant="primary" size="small" icon="plus" onClick={create}>
            Create a key
          </Button>
        }
      >
        {data ? (
          data.keys.length === 0 ? (
            <EmptyState
              icon="key"
              title="Only the admin key"
              text="Give programs and people keys of their own: each may do what you choose, and can be revoked without changing the others."
            />
          ) : (
            <Table
              caption="API keys that were made and not revoked"
              columns={columnsOf(data.own.id, (key) => revoke(key, data.own.id === key.id, reload))}
              rows={data.keys}
              rowKey={({ id }) => id}
            />
          )
        ) : (
          <div class="server-padded">{error ? <ErrorState error={error} onRetry={reload} /> : <Skeleton />}</div>
        )}
      </Card>
      {creating && <CreateKey onClose={() => setCreating(false)} onCreated={reload} />}
    </>
  )
}

const columnsOf = (own: string, onRevoke: (key: KeyInfo) => void): Column<KeyInfo>[] => [
  {
    id: 'name',
    label: 'Name',
    main: true,
    cell: ({ id, name }) => (
      <>
        {name} {id === own && <Badge tone="info">this one</Badge>}
      </>
    ),
  },
  { id: 'scopes', label: 'May', cell: ({ scopes }) => <Scopes scopes={scopes} /> },
  { id: 'key', label: 'Key', from: 'medium', cell: ({ id }) => <code>mt_{id}_…</code> },
  {
    id: 'created',
    label: 'Made',
    from: 'medium',
    cell: ({ created_at }) => <time title={moment(created_at)}>{ago(created_at)}</time>,
  },
  { id: 'used', label: 'Last used', cell: ({ last_used_at }) => (last_used_at === null ? 'never' : ago(last_used_at)) },
  { id: 'expires', label: 'Ends', cell: ({ expires_at }) => <End at={expires_at} /> },
  {
    id: 'revoke',
    label: 'Actions',
    align: 'right',
    cell: (key) => (
      <Button size="small" variant="ghost" icon="trash" label={`Revoke ${key.name}`} onClick={() => onRevoke(key)}>
        Revoke
      </Button>
    ),
  },
]

async function revoke({ id, name }: KeyInfo, own: boolean, reload: () => void): Promise<void> {
  const sure = await confirm({
    title: `Revoke “${name}”?`,
    text: own
      ? 'It is the key that you are signed in with: you will be signed out.'
      : 'What uses it is refused from now on, and its open streams are cut. This can’t be undone.',
    action: 'Revoke',
    danger: true,
  })
  if (!sure) return
  try {
    await client.value.keys.delete(id)
    toast(`“${name}” is revoked`)
  } catch (error) {
    toastError(error)
  }
  reload()
}

function Scopes({ scopes }: { scopes: readonly Scope[] }) {
  return (
    <span class="row server-scopes">
      {scopes.map((scope) => (
        <Badge key={scope} tone={scope === 'admin' ? 'warning' : 'neutral'}>
          {scope}
        </Badge>
      ))}
    </span>
  )
}

function End({ at }: { at: string | null }) {
  if (at === null) return <span class="muted">never</span>
  const left = Date.parse(at) - Date.now()
  if (left <= 0) return <Badge tone="bad">expired</Badge>
  const day = new Date(at).toLocaleDateString('en', { year: 'numeric', month: 'short', day: 'numeric' })
  return left < SOON_MS ? <Badge tone="warning">{day}</Badge> : <time title={moment(at)}>{day}</time>
}

/** Of whoever may not see the others. */
export function OwnKey() {
  const { data, error, reload } = useLoad((client, signal) => client.keys.own({ signal }), [])
  return (
    <Card title="Your API key">
      {data ? (
        <Facts
          facts={[
            ['Name', data.name],
            ['May', <Scopes key="may" scopes={data.may} />],
            ['Ends', <End key="end" at={data.expires_at} />],
          ]}
        />
      ) : error ? (
        <ErrorState error={error} onRetry={reload} />
      ) : (
        <Skeleton lines={3} />
      )}
    </Card>
  )
}

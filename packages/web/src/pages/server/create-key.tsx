import { ApiError, type CreatedKey, type Scope } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { CopyButton } from '../../components/copy.tsx'
import { Dialog } from '../../components/dialog.tsx'
import { Checkbox, Field, Select } from '../../components/field.tsx'
import { client } from '../../session.ts'

const SCOPES: { scope: Scope; meaning: string }[] = [
  { scope: 'read', meaning: 'look at experiments, data sets and models' },
  { scope: 'train', meaning: 'start, stop and delete experiments, upload data sets; includes read' },
  { scope: 'generate', meaning: 'ask models, those of paid providers too; includes read' },
  { scope: 'admin', meaning: 'everything, API keys too' },
]
const ENDS = [
  { value: '7', label: 'in 7 days' },
  { value: '30', label: 'in 30 days' },
  { value: '90', label: 'in 90 days' },
  { value: '365', label: 'in a year' },
  { value: 'never', label: 'never' },
] as const
type End = (typeof ENDS)[number]['value']

const DAY_MS = 86_400_000

export function CreateKey({ onClose, onCreated }: { onClose: () => void; onCreated: () => void }) {
  const [created, setCreated] = useState<CreatedKey | null>(null)
  if (created) return <Secret created={created} onClose={onClose} />
  return (
    <Form
      onClose={onClose}
      onCreated={(key) => {
        setCreated(key)
        onCreated()
      }}
    />
  )
}

function Form({ onClose, onCreated }: { onClose: () => void; onCreated: (key: CreatedKey) => void }) {
  const [name, setName] = useState('')
  const [scopes, setScopes] = useState<readonly Scope[]>(['read'])
  const [end, setEnd] = useState<End>('90')
  const [busy, setBusy] = useState(false)
  const [problems, setProblems] = useState<Record<string, string>>({})
  const submit = async (event: Event) => {
    event.preventDefault()
    const found = {
      ...(name.trim() === '' && { name: 'Say what it is for' }),
      ...(scopes.length === 0 && { scopes: 'Choose what it may do' }),
    }
    setProblems(found)
    if (Object.keys(found).length > 0) return
    setBusy(true)
    try {
      const expires_at = end === 'never' ? null : new Date(Date.now() + Number(end) * DAY_MS).toISOString()
      onCreated(await client.value.keys.create({ name: name.trim(), scopes: [...scopes], expires_at }))
    } catch (error) {
      const fields = error instanceof ApiError ? error.errors : []
      const text = error instanceof Error ? error.message : String(error)
      setProblems(
        fields.length === 0 ? { form: text } : Object.fromEntries(fields.map(({ field, message }) => [field, message])),
      )
      setBusy(false)
    }
  }
  return (
    <Dialog title="Create an API key" onClose={onClose}>
      <form class="stack" onSubmit={submit}>
        <Field label="Name" hint="What it is for, or whose it is" error={problems.name}>
          {(props) => (
            <input
              {...props}
              autocomplete="off"
              maxLength={100}
              value={name}
              onInput={(event) => setName(event.currentTarget.value)}
            />
          )}
        </Field>
        <fieldset class="server-scope-choice">
          <legend class="field-label">It may</legend>
          {SCOPES.map(({ scope, meaning }) => (
            <Checkbox
              key={scope}
              label={
                <>
                  <strong>{scope}</strong> <span class="muted">{meaning}</span>
                </>
              }
              checked={scopes.includes(scope)}
              onChange={(on) => setScopes(on ? [...scopes, scope] : scopes.filter((other) => other !== scope))}
            />
          ))}
          {problems.scopes && (
            <p class="field-error" role="alert">
              {problems.scopes}
            </p>
          )}
        </fieldset>
        <Field label="Ends" error={problems.expires_at}>
          {(props) => <Select {...props} value={end} options={ENDS} onChange={setEnd} />}
        </Field>
        {problems.form && (
          <p class="notice bad" role="alert">
            {problems.form}
          </p>
        )}
        <div class="dialog-foot">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" variant="primary" busy={busy}>
            Create
          </Button>
        </div>
      </form>
    </Dialog>
  )
}

/** The server keeps nothing but a hash: closed by accident, the key would be lost. */
function Secret({ created, onClose }: { created: CreatedKey; onClose: () => void }) {
  const [warned, setWarned] = useState(false)
  return (
    <Dialog
      title={`The key “${created.name}”`}
      onClose={() => (warned ? onClose() : setWarned(true))}
      footer={
        <Button variant="primary" onClick={onClose}>
          I have kept it
        </Button>
      }
    >
      <div class="stack">
        <p>Copy it now and keep it safe: it is shown this once, and can’t be told again.</p>
        <div class="server-secret">
          <Field label="API key" quiet>
            {(props) => (
              <input
                {...props}
                class="input mono"
                readOnly
                value={created.key}
                onFocus={(event) => event.currentTarget.select()}
              />
            )}
          </Field>
          <CopyButton text={created.key} label="Copy" quiet={false} />
        </div>
        {warned && (
          <p class="notice warning" role="alert">
            Have you kept the key? Close once more to leave it.
          </p>
        )}
      </div>
    </Dialog>
  )
}

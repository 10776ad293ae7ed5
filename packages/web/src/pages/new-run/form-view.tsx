import { ApiError, type ValidateInput } from '@mlx-training/sdk'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { CodeTabs } from '../../components/code-tabs.tsx'
import { Card } from '../../components/facts.tsx'
import { Field } from '../../components/field.tsx'
import { toast, toastError } from '../../components/toast.tsx'
import { baseName } from '../../format.ts'
import { navigate } from '../../router.ts'
import { client } from '../../session.ts'
import { commandsOf } from './commands.ts'
import { DataCard } from './data-card.tsx'
import { forgetDraft, isEntered, keepDraft, keptDraft } from './draft.ts'
import { atFields } from './errors.ts'
import { Estimate } from './estimate.tsx'
import { problemsOf, requestOf } from './form.ts'
import { MethodCard } from './method-card.tsx'
import { ModelCard } from './model-card.tsx'
import { PARAMETERS } from './schema.ts'
import type { Value, Values } from './values.ts'

export interface FormProps {
  initial: Values
  preset: string | null
  /** The run whose settings these are. */
  source: string | null
  /** Asks for another form in its place. */
  onAnew: () => void
}

type Errors = Readonly<Record<string, string>>

export function Form({ initial, preset: first, source, onAnew }: FormProps) {
  const [draft] = useState(keptDraft)
  const [values, setValues] = useState(draft?.values ?? initial)
  const [preset, setPreset] = useState(draft ? draft.preset : first)
  /** What is wrong, by field; '' is for what belongs to none. */
  const [errors, setErrors] = useState<Errors>({})
  const [busy, setBusy] = useState(false)
  const [told, setTold] = useState(0)
  const [stamp] = useState(stampOf)
  const [typing, setTyping] = useState(false)
  const form = useRef<HTMLDivElement>(null)

  const text = (path: string) => String(values[path] ?? '')
  const model = text('model_name')
  const data = text('dataset.dataset_path')
  const suggested = source ? `${source.slice(0, 80)}-${stamp}` : nameFor(model, stamp)
  const name = values.experiment_name === undefined ? suggested : text('experiment_name')
  const request = requestOf({ ...values, experiment_name: name })

  const change = (path: string, value: Value) => {
    setValues((old) => ({ ...old, [path]: value }))
    setErrors(({ [path]: _, ...rest }) => rest)
  }
  const named = (path: string) => (name: string, more: boolean) => {
    change(path, name)
    setTyping(more)
  }
  const fail = (found: Errors) => {
    setErrors(found)
    setTold((n) => n + 1)
  }
  /** Errors of the API at their fields; others are told as they are. */
  const failWith = (error: unknown) => {
    if (!(error instanceof ApiError)) return toastError(error)
    const found = atFields(error.errors, (field) => PARAMETERS.has(field))
    if (error.status === 409 && error.message.includes(`"${name}"`)) found.experiment_name = error.message
    if (Object.keys(found).length === 0) found[''] = error.message
    fail(found)
  }
  useEffect(() => keepDraft({ values, preset }, initial), [values, preset])
  // The first field that is wrong: seen, and read out.
  useEffect(() => {
    if (told > 0) form.current?.querySelector<HTMLElement>('[aria-invalid], .field-error')?.focus()
  }, [told])

  const missing: Record<string, string> = {
    ...(model === '' && { model_name: 'Choose a model' }),
    ...(data === '' && { 'dataset.dataset_path': 'Choose a data set' }),
    ...(name === '' && { experiment_name: 'Give it a name' }),
  }
  const wrong = () => {
    const found = { ...problemsOf(values), ...missing }
    if (Object.keys(found).length > 0) fail(found)
    return Object.keys(found).length > 0
  }
  const start = async () => {
    if (wrong()) return
    setBusy(true)
    try {
      const { experiment_name, queue_position } = await client.peek().train.start(request)
      forgetDraft()
      toast(queue_position > 0 ? `${experiment_name} waits in the queue` : `${experiment_name} starts`)
      navigate(`/experiments/${encodeURIComponent(experiment_name)}`)
    } catch (error) {
      setBusy(false)
      failWith(error)
    }
  }
  const settings = request.dataset ?? {}
  const check: ValidateInput | null =
    model === '' || data === '' || Object.keys(problemsOf(values)).some((path) => path.startsWith('dataset.'))
      ? null
      : checkOf(model, data, settings)
  // Half a name is not asked about: the server would look for it on a hub.
  const asked = useRef(check)
  if (!typing) asked.current = check

  return (
    // No form: Enter in one of its many fields must not start a run.
    <div class="new-run" ref={form}>
      <div class="stack">
        {draft && isEntered(draft, initial) && (
          <div class="notice row spread" role="status">
            <span>What you had entered in this tab is here again.</span>
            <Button
              size="small"
              onClick={() => {
                forgetDraft()
                onAnew()
              }}
            >
              Begin anew
            </Button>
          </div>
        )}
        <ModelCard model={model} error={errors.model_name} onModel={named('model_name')} />
        <DataCard
          path={data}
          error={errors['dataset.dataset_path']}
          onPath={named('dataset.dataset_path')}
          check={asked.current}
          onLength={(tokens) => {
            change('dataset.max_seq_length', String(tokens))
            toast(`The longest row is ${tokens} tokens now`)
          }}
        />
        <MethodCard
          values={values}
          errors={errors}
          preset={preset}
          onPreset={(id, next) => {
            setPreset(id)
            setValues(next)
            setErrors({})
          }}
          onValues={setValues}
          onChange={change}
        />
      </div>
      <div class="stack launch">
        <Card title="4. Start">
          <div class="stack">
            {errors[''] && (
              <p class="notice bad" role="alert">
                {errors['']}
              </p>
            )}
            <Field
              label="Name"
              hint="Letters, digits, “.”, “_” and “-”. Its result is called fine-tuned/NAME"
              error={errors.experiment_name}
            >
              {(props) => (
                <input
                  {...props}
                  name="experiment_name"
                  autocomplete="off"
                  spellcheck={false}
                  maxLength={100}
                  value={name}
                  onInput={(event) => change('experiment_name', event.currentTarget.value.trim())}
                />
              )}
            </Field>
            <Estimate request={request} disabled={model === '' || data === ''} onError={failWith} />
            <Button variant="primary" icon="play" busy={busy} wide onClick={start}>
              Start the run
            </Button>
          </div>
        </Card>
        <Card title="The same call">
          <CodeTabs samples={commandsOf(request, window.location.origin)} />
        </Card>
      </div>
    </div>
  )
}

/** What the check of the data takes of a start's `dataset`. */
function checkOf(model: string, path: string, dataset: ReturnType<typeof requestOf>['dataset']): ValidateInput {
  const { dataset_format, columns, tags, batch_size, max_seq_length, loss_on, truncation, validation_path } = dataset
  const given = { dataset_format, columns, tags, batch_size, max_seq_length, loss_on, truncation, validation_path }
  const told = Object.entries(given).filter(([, value]) => value !== undefined)
  return { file_path: path, model_name: model, ...Object.fromEntries(told) }
}

function stampOf(): string {
  const now = new Date()
  const two = (value: number) => String(value).padStart(2, '0')
  return `${two(now.getMonth() + 1)}${two(now.getDate())}-${two(now.getHours())}${two(now.getMinutes())}`
}

/** e.g. SmolLM2-135M-Instruct-1128-2104, as the command line names them. */
function nameFor(model: string, stamp: string): string {
  const base = baseName(model)
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
  return `${(base || 'run').slice(0, 80)}-${stamp}`
}

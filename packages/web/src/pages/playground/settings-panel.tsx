import { Button } from '../../components/button.tsx'
import { Checkbox, Field } from '../../components/field.tsx'
import { change, changed, type ParameterName, parameterOf, problemOf, reset, settings } from './settings.ts'

const USUAL: ParameterName[] = ['temperature', 'top_p', 'max_tokens', 'seed']
const MORE: ParameterName[] = ['top_k', 'min_p', 'repetition_penalty', 'presence_penalty', 'frequency_penalty']

export function SettingsPanel() {
  const { system, stop, raw } = settings.value
  return (
    <aside class="card chat-settings" aria-labelledby="settings-title">
      <header class="card-head">
        <h2 id="settings-title">Settings</h2>
        {changed.value && (
          <Button size="small" variant="ghost" icon="refresh" onClick={reset}>
            Reset
          </Button>
        )}
      </header>
      <div class="stack">
        <Field
          label="System prompt"
          hint={raw ? 'Not sent with plain text' : 'Empty: a tuned model gets the one that it was trained with'}
        >
          {(props) => (
            <textarea
              {...props}
              rows={3}
              value={system}
              disabled={raw}
              onInput={(event) => change({ system: event.currentTarget.value })}
            />
          )}
        </Field>
        {USUAL.map((name) => (
          <Parameter key={name} name={name} />
        ))}
        <details class="chat-more">
          <summary>More</summary>
          <div class="stack">
            {MORE.map((name) => (
              <Parameter key={name} name={name} />
            ))}
            <Field label="Stop sequences" hint="One a line: an answer ends before them">
              {(props) => (
                <textarea
                  {...props}
                  class="input mono"
                  rows={2}
                  value={stop}
                  onInput={(event) => change({ stop: event.currentTarget.value })}
                />
              )}
            </Field>
            <div>
              <Checkbox label="Plain text" checked={raw} onChange={(on) => change({ raw: on })} />
              <p class="field-hint">The message is gone on with as it is, without a chat template</p>
            </div>
          </div>
        </details>
      </div>
    </aside>
  )
}

function Parameter({ name }: { name: ParameterName }) {
  const { label, hint, min, max, step, slider, initial } = parameterOf(name)
  const text = settings.value[name]
  return (
    <div class={slider ? 'chat-setting chat-slider' : 'chat-setting'}>
      <Field label={label} hint={hint} error={problemOf(name, text)}>
        {(props) => (
          <input
            {...props}
            inputMode="decimal"
            autocomplete="off"
            placeholder={initial === '' ? 'not set' : undefined}
            value={text}
            onInput={(event) => change({ [name]: event.currentTarget.value })}
          />
        )}
      </Field>
      {slider && (
        <input
          type="range"
          aria-label={`${label}, as a slider`}
          min={min}
          max={max}
          step={step}
          value={Number(text) || 0}
          onInput={(event) => change({ [name]: event.currentTarget.value })}
        />
      )}
    </div>
  )
}

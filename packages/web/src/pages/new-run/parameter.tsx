/** One parameter as an input of its kind, with its meaning, its limits and its default from the contract. */
import type { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { Checkbox, Field, type InputProps, Select } from '../../components/field.tsx'
import { CHOICES, type FieldInfo } from './fields.ts'
import { isDefault, numberText, problemOf } from './form.ts'
import { type Parameter, parameterAt, rangeOf } from './schema.ts'
import type { Value } from './values.ts'

export interface ParameterProps {
  field: FieldInfo
  value: Value | undefined
  /** In the server's words. */
  error: string | undefined
  onChange: (path: string, value: Value) => void
}

export function ParameterField({ field, value, error, onChange }: ParameterProps) {
  const parameter = parameterAt(field.path)
  const change = (next: Value) => onChange(field.path, next)
  const wrong = error ?? problemOf(parameter, value)
  const changed = !isDefault(parameter, value)
  if (parameter.kind === 'boolean' && parameter.default !== undefined)
    return (
      <div class="field switch" data-path={field.path}>
        <Checkbox
          label={<Label field={field} changed={changed} />}
          checked={(value ?? parameter.default) === true}
          onChange={change}
        />
        {wrong && (
          <p class="field-error" role="alert">
            {wrong}
          </p>
        )}
        {parameter.description && <p class="field-hint">{parameter.description}</p>}
      </div>
    )
  return (
    <div class={field.lines ? 'whole' : undefined} data-path={field.path}>
      <Field label={<Label field={field} changed={changed} />} hint={hintOf(field, parameter)} error={wrong}>
        {(props) => inputOf(field, parameter, value, change, props)}
      </Field>
    </div>
  )
}

function Label({ field: { label, unit }, changed }: { field: FieldInfo; changed: boolean }) {
  return (
    <>
      {label}
      {unit && <span class="unit"> {unit}</span>}
      {changed && (
        <span class="changed" title="Not the default">
          <span class="visually-hidden"> (changed)</span>
        </span>
      )}
    </>
  )
}

/** What it means, then its limits and what it is when nothing is entered. */
function hintOf({ hint, unit, without }: FieldInfo, parameter: Parameter): ComponentChildren {
  const { description, kind } = parameter
  const limits = [rangeOf(parameter), kind === 'choice' || kind === 'list' ? null : defaultOf(parameter, without)]
  const facts = limits.filter(Boolean).join(' · ')
  // Some descriptions are the unit alone, which stands beside the label.
  const said = description?.toLowerCase() === unit ? undefined : description?.replaceAll('`', '')
  const means = [hint, said].filter(Boolean)
  return (
    <>
      {means.join('. ')}
      {facts && <span class="limits">{facts}</span>}
    </>
  )
}

function defaultOf({ default: standard }: Parameter, without: string | undefined): string | null {
  if (standard === undefined) return without ? `left out: ${without}` : null
  return `default ${typeof standard === 'number' ? numberText(standard) : String(standard)}`
}

function inputOf(
  field: FieldInfo,
  parameter: Parameter,
  value: Value | undefined,
  change: (value: Value) => void,
  props: InputProps,
): ComponentChildren {
  const { kind, path } = parameter
  if (kind === 'choice' || kind === 'boolean') return choiceOf(field, parameter, value, change, props)
  if (kind === 'list') {
    const lines = (value ?? parameter.default ?? []) as readonly string[]
    return <Lines props={props} lines={lines} change={change} />
  }
  const standard = parameter.default
  return (
    <input
      {...props}
      name={path}
      inputMode={kind === 'integer' ? 'numeric' : kind === 'number' ? 'decimal' : undefined}
      autocomplete="off"
      spellcheck={false}
      placeholder={typeof standard === 'number' ? numberText(standard) : (field.without ?? '')}
      value={value === undefined ? '' : String(value)}
      onInput={(event) => change(event.currentTarget.value.trim())}
    />
  )
}

const YES = { true: 'Yes', false: 'No' } as const

function choiceOf(
  { without }: FieldInfo,
  { kind, enum: names = [], default: standard }: Parameter,
  value: Value | undefined,
  change: (value: Value) => void,
  props: InputProps,
) {
  const options =
    kind === 'boolean'
      ? Object.entries(YES).map(([value, label]) => ({ value, label }))
      : names.map((name) => ({ value: name, label: CHOICES[name] ?? name }))
  if (standard === undefined) options.unshift({ value: '', label: without ? capital(without) : 'Left out' })
  return (
    <Select
      {...props}
      value={String(value ?? standard ?? '')}
      options={options}
      onChange={(chosen) => change(kind === 'boolean' && chosen !== '' ? chosen === 'true' : chosen)}
    />
  )
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)

/** Empty lines are kept while they are typed, and not sent. */
function Lines({
  props,
  lines,
  change,
}: {
  props: InputProps
  lines: readonly string[]
  change: (lines: readonly string[]) => void
}) {
  const [text, setText] = useState(lines.join('\n'))
  const key = lines.join('\n')
  // A preset may bring others.
  useEffect(() => {
    if (linesOf(text).join('\n') !== key) setText(key)
  }, [key])
  return (
    <textarea
      {...props}
      rows={Math.min(8, Math.max(3, lines.length + 1))}
      spellcheck={false}
      value={text}
      onInput={(event) => {
        setText(event.currentTarget.value)
        change(linesOf(event.currentTarget.value))
      }}
    />
  )
}

const linesOf = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)

/** A labelled input. What it means and what is wrong with it are read out with it. */
import type { ComponentChildren } from 'preact'
import { useId } from 'preact/hooks'

export interface InputProps {
  id: string
  class: string
  'aria-describedby': string | undefined
  'aria-invalid': boolean | undefined
}

export interface FieldProps {
  label: ComponentChildren
  hint?: ComponentChildren
  error?: string | null | undefined
  /** Label for screen readers alone. */
  quiet?: boolean
  /** The input: gets the attributes that tie it to its label. */
  children: (props: InputProps) => ComponentChildren
}

export function Field({ label, hint, error, quiet = false, children }: FieldProps) {
  const id = useId()
  const described = [error && `${id}-error`, hint && `${id}-hint`].filter(Boolean).join(' ')
  return (
    <div class="field">
      <label for={id} class={quiet ? 'visually-hidden' : 'field-label'}>
        {label}
      </label>
      {children({
        id,
        class: 'input',
        'aria-describedby': described || undefined,
        'aria-invalid': error ? true : undefined,
      })}
      {error && (
        <p class="field-error" id={`${id}-error`} role="alert">
          {error}
        </p>
      )}
      {hint && (
        <p class="field-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  )
}

export interface Option<T extends string = string> {
  value: T
  label: string
}

export function Select<T extends string>({
  value,
  options,
  onChange,
  ...props
}: Partial<InputProps> & {
  value: T
  options: readonly Option<T>[]
  onChange: (value: T) => void
  disabled?: boolean
}) {
  return (
    <select
      {...props}
      class={`select ${props.class ?? 'input'}`}
      value={value}
      onChange={(event) => onChange(event.currentTarget.value as T)}
    >
      {options.map((option) => (
        <option key={option.value} value={option.value}>
          {option.label}
        </option>
      ))}
    </select>
  )
}

export function Checkbox({
  label,
  checked,
  onChange,
  disabled = false,
}: {
  label: ComponentChildren
  checked: boolean
  onChange: (checked: boolean) => void
  disabled?: boolean
}) {
  return (
    <label class="checkbox">
      <input
        type="checkbox"
        checked={checked}
        disabled={disabled}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      <span>{label}</span>
    </label>
  )
}

/** One of few, all visible: a group of radio buttons that look like one control. */
export function Segmented<T extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string
  value: T
  options: readonly Option<T>[]
  onChange: (value: T) => void
}) {
  const name = useId()
  return (
    <fieldset class="segmented">
      <legend class="visually-hidden">{label}</legend>
      {options.map((option) => (
        <label key={option.value}>
          <input
            type="radio"
            name={name}
            value={option.value}
            checked={option.value === value}
            onChange={() => onChange(option.value)}
          />
          <span>{option.label}</span>
        </label>
      ))}
    </fieldset>
  )
}

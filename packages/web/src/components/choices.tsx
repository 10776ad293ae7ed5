/** One of a list of things that need some words each: radio buttons in a box that scrolls. */
import type { ComponentChildren } from 'preact'
import { useId } from 'preact/hooks'

export interface Choice {
  value: string
  title: ComponentChildren
  note?: ComponentChildren
  /** On the right: badges. */
  aside?: ComponentChildren
  /** The note says why. */
  disabled?: boolean
}

export interface ChoicesProps {
  label: string
  choices: readonly Choice[]
  /** None is chosen when it is not among them. */
  value: string
  onChange: (value: string) => void
  /** Beside each other, for few. */
  across?: boolean
}

export function Choices({ label, choices, value, onChange, across = false }: ChoicesProps) {
  const name = useId()
  return (
    <fieldset class={across ? 'choices across' : 'choices'}>
      <legend class="visually-hidden">{label}</legend>
      {choices.map((choice) => (
        <label key={choice.value} class={choice.disabled ? 'choice disabled' : 'choice'}>
          <input
            type="radio"
            name={name}
            value={choice.value}
            checked={choice.value === value}
            disabled={choice.disabled}
            onChange={() => onChange(choice.value)}
          />
          <span class="choice-text">
            <span class="choice-title">{choice.title}</span>
            {choice.note && <span class="choice-note">{choice.note}</span>}
          </span>
          {choice.aside && <span class="choice-aside">{choice.aside}</span>}
        </label>
      ))}
    </fieldset>
  )
}

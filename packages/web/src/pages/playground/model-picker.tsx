/** A button with the model's name, and a list to search below it: a combobox after the ARIA authoring practices. */
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { Icon } from '../../components/icon.tsx'
import { type Choices, naming } from './models.ts'

/** Of a provider that has hundreds, as many as anyone reads; the others are found by typing. */
const SHOWN = 40

interface Props {
  choices: Choices
  value: string | null
  /** What is chosen here; the model's name stands after it. */
  label: string
  onChoose: (model: string) => void
}

export function ModelPicker({ choices, value, label, onChoose }: Props) {
  const [open, setOpen] = useState(false)
  const box = useRef<HTMLDivElement>(null)
  const button = useRef<HTMLButtonElement>(null)
  const close = (focus: boolean) => {
    setOpen(false)
    if (focus) button.current?.focus()
  }
  useEffect(() => {
    if (!open) return
    const away = (event: Event) => {
      if (event.target instanceof Node && !box.current?.contains(event.target)) setOpen(false)
    }
    document.addEventListener('pointerdown', away)
    document.addEventListener('focusin', away)
    return () => {
      document.removeEventListener('pointerdown', away)
      document.removeEventListener('focusin', away)
    }
  }, [open])
  const shown = value === null ? null : naming(value)
  return (
    <div class="picker" ref={box}>
      <button
        ref={button}
        type="button"
        class={value === null ? 'picker-button add' : 'picker-button'}
        aria-haspopup="listbox"
        aria-expanded={open}
        title={value ?? undefined}
        onClick={() => setOpen(!open)}
      >
        {shown ? (
          <>
            <span class="visually-hidden">{label}: </span>
            <span class="picker-name">{shown.name}</span>
            <span class="picker-kind">{shown.kind}</span>
          </>
        ) : (
          <>
            <Icon name="plus" size={16} />
            {label}
          </>
        )}
        <Icon name="chevron" size={16} />
      </button>
      {open && (
        <Finder
          choices={choices}
          value={value}
          onClose={() => close(true)}
          onChoose={(model) => {
            close(true)
            onChoose(model)
          }}
        />
      )}
    </div>
  )
}

function Finder({
  choices,
  value,
  onChoose,
  onClose,
}: Pick<Props, 'choices' | 'value' | 'onChoose'> & { onClose: () => void }) {
  const id = useId()
  const [text, setText] = useState('')
  const wanted = text.trim()
  const found = choices.groups
    .map(({ label, models }) => {
      const matching = models.filter((model) => model.toLowerCase().includes(wanted.toLowerCase()))
      return { label, models: matching.slice(0, SHOWN), more: Math.max(0, matching.length - SHOWN) }
    })
    .filter(({ models }) => models.length > 0)
  const known = choices.groups.some(({ models }) => models.includes(wanted))
  // A repository of the hub, a folder, a model that a provider has but does not list.
  const groups = wanted === '' || known ? found : [...found, { label: 'Another', models: [wanted], more: 0 }]
  const options = groups.flatMap(({ models }) => models)
  const [active, setActive] = useState(() => Math.max(0, options.indexOf(value ?? '')))
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => input.current?.focus(), [])
  useEffect(() => document.getElementById(`${id}-${active}`)?.scrollIntoView({ block: 'nearest' }), [active])
  const keys = (event: KeyboardEvent) => {
    const last = options.length - 1
    const to = { ArrowDown: active === last ? 0 : active + 1, ArrowUp: active === 0 ? last : active - 1 }[event.key]
    if (to !== undefined) setActive(to)
    else if (event.key === 'Escape') onClose()
    else if (event.key === 'Enter') {
      const chosen = options[active]
      if (chosen !== undefined) onChoose(chosen)
    } else return
    event.preventDefault()
  }
  let at = 0
  return (
    <div class="picker-pop">
      <input
        ref={input}
        class="input"
        role="combobox"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        aria-activedescendant={options.length > 0 ? `${id}-${active}` : undefined}
        aria-autocomplete="list"
        aria-label="Find a model"
        placeholder="Find a model, or name one"
        autocomplete="off"
        spellcheck={false}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value)
          setActive(0)
        }}
        onKeyDown={keys}
      />
      <div class="picker-list" role="listbox" id={`${id}-list`} aria-label="Models">
        {groups.map(({ label, models, more }) => (
          // biome-ignore lint/a11y/useSemanticElements: a fieldset is no group of options
          <div key={label} role="group" aria-label={label}>
            <div class="picker-group" aria-hidden="true">
              {label}
              {more > 0 && ` · ${more} more, type to find them`}
            </div>
            {models.map((model) => {
              const index = at++
              return (
                // biome-ignore lint/a11y/useKeyWithClickEvents: the input above has the keys
                <div
                  key={model}
                  id={`${id}-${index}`}
                  class={index === active ? 'picker-option active' : 'picker-option'}
                  role="option"
                  tabIndex={-1}
                  aria-selected={model === value}
                  onPointerMove={() => setActive(index)}
                  onClick={() => onChoose(model)}
                >
                  <span>{label === 'Another' ? `Use “${model}”` : naming(model).name}</span>
                  {model === value && <Icon name="check" size={16} />}
                </div>
              )
            })}
          </div>
        ))}
      </div>
      {choices.absent.length > 0 && (
        <ul class="picker-absent">
          {choices.absent.map(({ label, reason }) => (
            <li key={label}>
              <strong>{label}</strong>: {reason}
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}

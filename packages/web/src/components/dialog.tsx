/** The browser's own dialog: it keeps the focus, closes on Escape, and makes the rest inert. */
import { signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef } from 'preact/hooks'
import { Button } from './button.tsx'

export interface DialogProps {
  title: string
  onClose: () => void
  children: ComponentChildren
  /** Buttons. */
  footer?: ComponentChildren
  wide?: boolean
}

/** Shown as long as it is rendered. */
export function Dialog({ title, onClose, children, footer, wide = false }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null)
  const id = useId()
  useEffect(() => {
    const before = document.activeElement
    ref.current?.showModal()
    // The browser would take the first one, which is Close: typing would go nowhere.
    const first = ref.current?.querySelector<HTMLElement>('.dialog-body :is(input, select, textarea):enabled')
    ;(first ?? ref.current?.querySelector<HTMLElement>('.dialog-foot button'))?.focus()
    return () => {
      if (before instanceof HTMLElement) before.focus()
    }
  }, [])
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes it, which the browser does
    <dialog
      ref={ref}
      class={wide ? 'dialog wide' : 'dialog'}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault()
        onClose()
      }}
      onClick={(event) => event.target === ref.current && onClose()}
    >
      <div class="dialog-box">
        <header class="dialog-head">
          <h2 id={id}>{title}</h2>
          <Button variant="ghost" size="small" icon="close" label="Close" onClick={onClose} />
        </header>
        <div class="dialog-body">{children}</div>
        {footer && <footer class="dialog-foot">{footer}</footer>}
      </div>
    </dialog>
  )
}

interface Question {
  title: string
  text: ComponentChildren
  /** On the button that does it. */
  action: string
  danger?: boolean
}

const asked = signal<(Question & { answer: (yes: boolean) => void }) | null>(null)

/** Asks before something that can't be undone. Resolves to whether it is to be done. */
export function confirm(question: Question): Promise<boolean> {
  return new Promise((answer) => {
    asked.value = { ...question, answer }
  })
}

/** Rendered once, by the layout. */
export function Confirmation() {
  const question = asked.value
  if (!question) return null
  const end = (yes: boolean) => {
    asked.value = null
    question.answer(yes)
  }
  return (
    <Dialog
      title={question.title}
      onClose={() => end(false)}
      footer={
        <>
          <Button onClick={() => end(false)}>Cancel</Button>
          <Button variant={question.danger ? 'danger' : 'primary'} onClick={() => end(true)}>
            {question.action}
          </Button>
        </>
      }
    >
      {question.text}
    </Dialog>
  )
}

/** Short messages about what was just done; they leave by themselves, errors when they are closed. */
import { signal } from '@preact/signals'
import { Button } from './button.tsx'
import { Icon } from './icon.tsx'

interface Toast {
  id: number
  text: string
  tone: 'good' | 'bad'
}

const toasts = signal<Toast[]>([])
let next = 1
const SHOWN_MS = 5000

export function toast(text: string, tone: Toast['tone'] = 'good'): void {
  const id = next++
  toasts.value = [...toasts.value.slice(-3), { id, text, tone }]
  if (tone === 'good') setTimeout(() => close(id), SHOWN_MS)
}

/** What went wrong with a command, in the server's words. */
export const toastError = (error: unknown) => toast(error instanceof Error ? error.message : String(error), 'bad')

function close(id: number): void {
  toasts.value = toasts.value.filter((shown) => shown.id !== id)
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map(({ id, text, tone }) => (
        <div key={id} class={`toast ${tone}`}>
          <Icon name={tone === 'good' ? 'check' : 'warning'} />
          <p>{text}</p>
          <Button variant="ghost" size="small" icon="close" label="Close" onClick={() => close(id)} />
        </div>
      ))}
    </div>
  )
}

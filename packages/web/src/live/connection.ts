/** Whether the server can be reached, by what became of the last request, whoever sent it. */
import { signal } from '@preact/signals'

export const online = signal(true)
/** Counts returns of the server: what was loaded before may be old. */
export const returns = signal(0)

export function heard(): void {
  if (online.peek()) return
  online.value = true
  returns.value++
}

export function missed(): void {
  online.value = false
}

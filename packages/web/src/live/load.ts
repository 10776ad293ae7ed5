/** Something loaded for a page: again when its inputs change, when asked to, and when the server is back. */
import type { MlxTraining } from '@mlx-training/sdk'
import { useEffect, useRef, useState } from 'preact/hooks'
import { client } from '../session.ts'
import { online, returns } from './connection.ts'

export interface Loaded<T> {
  /** What was loaded last: it stays while it is loaded again. */
  data: T | null
  error: Error | null
  loading: boolean
  reload: () => void
}

export function useLoad<T>(
  load: (client: MlxTraining, signal: AbortSignal) => Promise<T>,
  inputs: readonly unknown[],
): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; error: Error | null; loading: boolean }>({
    data: null,
    error: null,
    loading: true,
  })
  const [asked, setAsked] = useState(0)
  const key = JSON.stringify(inputs)
  const shown = useRef(key)
  const back = returns.value
  // `load` is another function at each render; what it depends on is in `key`.
  useEffect(() => {
    const left = new AbortController()
    const same = shown.current === key
    shown.current = key
    setState((old) => ({ data: same ? old.data : null, error: null, loading: true }))
    load(client.peek(), left.signal).then(
      (data) => !left.signal.aborted && setState({ data, error: null, loading: false }),
      (error) => !left.signal.aborted && setState((old) => ({ ...old, error, loading: false })),
    )
    return () => left.abort()
  }, [key, asked, back])
  return { ...state, reload: () => setAsked((n) => n + 1) }
}

/** Whether an error says no more than the banner about the unreachable server does. */
export const isAway = (error: unknown) => !online.value && !(error instanceof Error && 'status' in error)

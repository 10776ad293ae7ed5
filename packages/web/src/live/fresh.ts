/** Something that a page shows as it is now: asked for again and again while the page is looked at. */
import { ApiError, type MlxTraining } from '@mlx-training/sdk'
import { useEffect, useRef, useState } from 'preact/hooks'
import { client } from '../session.ts'
import { type Poll, poll } from './poll.ts'

export interface Fresh<T> {
  /** What came last: it stays when the server is away. */
  data: T | null
  /** What the server said instead; that it can't be reached is the banner's to tell. */
  error: Error | null
  /** Asks at once: after a command, whose result should be seen. */
  reload: () => void
}

const AWAY_MS = 1000

export function useFresh<T>(load: (client: MlxTraining, signal: AbortSignal) => Promise<T>, everyMs: number): Fresh<T> {
  const [state, setState] = useState<Omit<Fresh<T>, 'reload'>>({ data: null, error: null })
  const polling = useRef<Poll | null>(null)
  useEffect(() => {
    const started = poll(async (signal) => {
      try {
        const data = await load(client.peek(), signal)
        if (!signal.aborted) setState({ data, error: null })
        return everyMs
      } catch (error) {
        if (error instanceof ApiError && !signal.aborted) setState(({ data }) => ({ data, error }))
        return error instanceof ApiError ? everyMs : AWAY_MS
      }
    })
    polling.current = started
    return () => started.stop()
  }, [])
  return { ...state, reload: () => polling.current?.now() }
}

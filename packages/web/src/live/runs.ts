/** The histories of several runs. A browser has six connections to a server, so these are asked for and not streamed. */
import { ApiError, type MlxTraining } from '@mlx-training/sdk'
import { type Signal, signal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { client } from '../session.ts'
import { poll } from './poll.ts'
import { RunData } from './run-data.ts'

export interface ComparedRun {
  name: string
  data: RunData
  /** All that there was at first has been read. */
  complete: boolean
  error: Error | null
}

export interface ComparedRuns {
  runs: ComparedRun[]
  /** Changes whenever one of them has. */
  version: Signal<number>
}

const LIVE_MS = 2000
const QUIET_MS = 5000
/** Small pages: none of them keeps the page from drawing for long. */
const PAGE = 5000
const ENDED = ['completed', 'failed', 'stopped']

export function useRuns(names: readonly string[]): ComparedRuns {
  const key = names.join('\n')
  const compared = useMemo<ComparedRuns>(
    () => ({
      runs: names.map((name) => ({ name, data: new RunData(), complete: false, error: null })),
      version: signal(0),
    }),
    [key],
  )
  useEffect(() => {
    const polling = poll(async (left) => {
      let live = false
      for (const run of compared.runs) {
        if (left.aborted) break
        live = (await catchUp(client.peek(), run, left, () => compared.version.value++)) || live
      }
      return live ? LIVE_MS : QUIET_MS
    })
    return polling.stop
  }, [compared])
  return compared
}

/** Whether more is to be expected of it soon. */
async function catchUp(
  client: MlxTraining,
  run: ComparedRun,
  left: AbortSignal,
  changed: () => void,
): Promise<boolean> {
  try {
    for (;;) {
      const query = { after: run.data.last, limit: PAGE }
      const page = await client.train.history(run.name, query, { signal: left, maxRetries: 0 })
      if (run.data.jobId !== null && run.data.jobId !== page.job_id) {
        run.data = new RunData()
        continue
      }
      const before = run.data.last
      run.data.addHistory(page)
      if (!page.more && (run.data.last > before || !run.complete || run.error)) {
        run.complete = true
        run.error = null
        changed()
      }
      if (!page.more) return !ENDED.includes(page.status)
    }
  } catch (error) {
    if (!left.aborted && error instanceof ApiError && run.error === null) {
      run.error = error
      changed()
    }
    return true
  }
}

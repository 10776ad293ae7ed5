/** One run as it is now: its status, its history, and what comes after it, pushed by the server. */
import { ApiError, type MlxTraining, NotFoundError, type StatusResponse } from '@mlx-training/sdk'
import { type Signal, signal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { client } from '../session.ts'
import { returns } from './connection.ts'
import { RunData } from './run-data.ts'
import { untilVisible, whileVisible } from './visible.ts'

export interface Run {
  name: string
  status: Signal<StatusResponse | null>
  data: RunData
  /** Changes whenever `data` has. */
  version: Signal<number>
  /** The history is there, so that what is missing is known to be missing. */
  complete: Signal<boolean>
  error: Signal<Error | null>
  /** Asks for the status now, after a command. */
  refresh: () => void
}

/** Followed while the component is shown. */
export function useRun(name: string): Run {
  const [run, follow] = useMemo(() => createRun(name), [name])
  useEffect(() => {
    const left = new AbortController()
    void follow(left.signal)
    return () => left.abort()
  }, [follow])
  return run
}

const STATUS_MS = 1000
const ENDED_MS = 3000
const AGAIN_MS = 1000
const PAGE = 20_000
const ENDED = ['completed', 'failed', 'stopped']

function createRun(name: string): [Run, (left: AbortSignal) => Promise<void>] {
  const run: Run = {
    name,
    status: signal(null),
    data: new RunData(),
    version: signal(0),
    complete: signal(false),
    error: signal(null),
    refresh: () => {},
  }
  const follow = async (left: AbortSignal) => {
    const status = askStatus(run, left)
    run.refresh = status.soon
    while (!left.aborted) {
      try {
        await readHistory(client.peek(), run, left)
        run.complete.value = true
        run.error.value = null
        status.soon()
        await whileVisible(left, (signal) => readEvents(client.peek(), run, signal, status.soon))
        await untilVisible(left)
        status.soon()
        await resumed(run, status.soon, left)
      } catch (error) {
        if (left.aborted) return
        if (error instanceof ApiError) run.error.value = error
        if (error instanceof NotFoundError) return
        await pause(AGAIN_MS, left)
      }
    }
  }
  return [run, follow]
}

async function readHistory(client: MlxTraining, run: Run, signal: AbortSignal): Promise<void> {
  for (;;) {
    const page = await client.train.history(run.name, { after: run.data.last, limit: PAGE }, { signal, maxRetries: 0 })
    if (run.data.jobId !== null && run.data.jobId !== page.job_id) {
      // Replaced by another of the same name.
      run.data = new RunData()
      run.version.value++
      continue
    }
    run.data.addHistory(page)
    run.version.value++
    if (!page.more) return
  }
}

/** Events come in bursts; the page changes once a frame. */
async function readEvents(client: MlxTraining, run: Run, signal: AbortSignal, changed: () => void): Promise<void> {
  let due = false
  for await (const event of client.train.events(run.name, { after: run.data.last, signal, patience: Infinity })) {
    if (event.job_id !== run.data.jobId) return
    run.data.addEvent(event)
    if (event.type !== 'log') changed()
    if (due) continue
    due = true
    requestAnimationFrame(() => {
      due = false
      run.version.value++
    })
  }
}

/** Over, until somebody resumes or replaces it, here or elsewhere. */
async function resumed(run: Run, ask: () => void, left: AbortSignal): Promise<void> {
  for (;;) {
    const status = run.status.peek()
    if (status && (!ENDED.includes(status.status) || status.job_id !== run.data.jobId)) return
    await pause(ENDED_MS, left)
    if (!document.hidden) ask()
  }
}

/** At most once a second, however often it is asked for. */
function askStatus(run: Run, left: AbortSignal): { soon: () => void } {
  let asking = false
  let again = false
  const ask = async () => {
    asking = true
    again = false
    try {
      run.status.value = await client.peek().train.status(run.name, { signal: left, maxRetries: 0 })
    } catch (error) {
      if (!left.aborted && error instanceof ApiError) run.error.value = error
    }
    await pause(STATUS_MS, left).catch(() => {})
    asking = false
    if (again && !left.aborted) void ask()
  }
  const soon = () => {
    again = true
    if (!asking && !left.aborted) void ask()
  }
  const stop = returns.subscribe(soon)
  left.addEventListener('abort', stop)
  return { soon }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resume, stop) => {
    const timer = setTimeout(resume, milliseconds)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      stop(signal.reason)
    })
  })
}

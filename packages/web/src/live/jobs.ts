/** The list of all jobs, shared by the pages that show it, and kept fresh while one of them does. */
import { ApiError, type JobSummary } from '@mlx-training/sdk'
import { signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { client } from '../session.ts'
import { type Poll, poll } from './poll.ts'

export const jobs = signal<JobSummary[] | null>(null)
/** Why there is no list; an unreachable server is no error here, the banner tells of it. */
export const jobsError = signal<Error | null>(null)

const ACTIVE = ['queued', 'preparing', 'running', 'stopping']
export const isActive = ({ status }: Pick<JobSummary, 'status'>) => ACTIVE.includes(status)

const BUSY_MS = 1500
const QUIET_MS = 5000
const AWAY_MS = 1000

let users = 0
let polling: Poll | null = null

async function ask(signal: AbortSignal): Promise<number> {
  try {
    const { training_jobs } = await client.peek().train.list({ signal, maxRetries: 0 })
    jobs.value = training_jobs
    jobsError.value = null
    return training_jobs.some(isActive) ? BUSY_MS : QUIET_MS
  } catch (error) {
    if (error instanceof ApiError) jobsError.value = error
    return AWAY_MS
  }
}

/** Of a component that shows jobs. */
export function useJobs(): void {
  useEffect(() => {
    users++
    polling ??= poll(ask)
    return () => {
      users--
      if (users > 0) return
      polling?.stop()
      polling = null
    }
  }, [])
}

/** After a command whose result should be seen at once. */
export const refreshJobs = () => polling?.now()

/** Of another user, who must not see what the one before saw. */
export function forgetJobs(): void {
  jobs.value = null
  jobsError.value = null
}

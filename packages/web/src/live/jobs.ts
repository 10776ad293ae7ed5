/** The list of all jobs, shared by the pages that show it, and pushed by the server while one of them does. */
import { ApiError, type JobSummary, type JobsChange } from '@mlx-training/sdk'
import { signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { client } from '../session.ts'
import { changed } from './job-list.ts'
import { untilVisible, whileVisible } from './visible.ts'

export const jobs = signal<JobSummary[] | null>(null)
/** Why there is no list; an unreachable server is no error here, the banner tells of it. */
export const jobsError = signal<Error | null>(null)

const ACTIVE = ['queued', 'preparing', 'running', 'stopping']
export const isActive = ({ status }: Pick<JobSummary, 'status'>) => ACTIVE.includes(status)

const AGAIN_MS = 1000

let users = 0
let following: AbortController | null = null
/** The last change that `jobs` has. */
let last = ''

async function follow(left: AbortSignal): Promise<void> {
  while (!left.aborted)
    try {
      await untilVisible(left)
      await whileVisible(left, read)
    } catch (error) {
      if (left.aborted) return
      if (error instanceof ApiError) jobsError.value = error
      await new Promise((again) => setTimeout(again, AGAIN_MS))
    }
}

async function read(signal: AbortSignal): Promise<void> {
  for await (const change of client.peek().train.changes({ signal, lastEventId: last, patience: 0 })) {
    if (signal.aborted) return
    take(change)
  }
}

function take(change: JobsChange): void {
  jobs.value = changed(jobs.peek() ?? [], change)
  jobsError.value = null
  last = change.id
}

/** Of a component that shows jobs. */
export function useJobs(): void {
  useEffect(() => {
    users++
    if (!following) {
      following = new AbortController()
      void follow(following.signal)
    }
    return () => {
      users--
      if (users > 0) return
      following?.abort()
      following = null
    }
  }, [])
}

/** Of another user, who must not see what the one before saw. */
export function forgetJobs(): void {
  jobs.value = null
  jobsError.value = null
  last = ''
}

/** The order of waiting jobs, and when each gets its turn. Pure. */
import { START_SECONDS } from './estimate.ts'
import { AT_WORK, backoffOf } from './machine.ts'
import type { Job, Place } from './port.ts'

/** The engine has this long to save a stopped or paused job. */
const ENDING_SECONDS = 5

/** Higher priority first, then the older one; `jobs` come newest first, as the store lists them. */
export function inOrder(jobs: readonly Job[]): Job[] {
  const queued = jobs.filter(({ state }) => state === 'queued').reverse()
  return queued.sort((a, b) => b.priority - a.priority)
}

/**
 * The places of all queued jobs, by id, when so many train at a time. A job gets the first place that is free, and takes
 * as long as it is estimated to; whoever comes after one of which nothing is known is not told a time.
 * `jobs`: newest first; `now`: milliseconds since 1970.
 */
export function placesOf(jobs: readonly Job[], concurrent: number, now: number): Map<string, Place> {
  const ends = jobs
    .filter(({ state }) => AT_WORK.includes(state))
    .map((job) => now + 1000 * secondsLeft(job, now))
    .sort((a, b) => a - b)
  // Of more at work than may be (the setting was lowered), the first to end leave no place.
  const free = ends.slice(Math.max(0, ends.length - concurrent))
  while (free.length < concurrent) free.push(now)

  const places = new Map<string, Place>()
  for (const [position, job] of inOrder(jobs).entries()) {
    const place = Math.min(...free)
    const start = Math.max(place, restsUntil(job))
    places.set(job.id, { position, start: Number.isFinite(start) ? new Date(start).toISOString() : null })
    free[free.indexOf(place)] = start + 1000 * secondsToRun(job)
  }
  return places
}

function restsUntil(job: Job): number {
  const { interruption } = job.progress
  return interruption ? Date.parse(interruption.at) + backoffOf(job) : 0
}

/** Infinite: not known. */
function secondsToRun({ progress, plan }: Job): number {
  const left = progress.step?.seconds_remaining
  if (left !== null && left !== undefined) return START_SECONDS + left
  return plan.estimatedSeconds ?? Number.POSITIVE_INFINITY
}

function secondsLeft(job: Job, now: number): number {
  const { state, intent, progress, startedAt, attempt } = job
  if (state === 'stopping' || intent === 'pause') return ENDING_SECONDS
  if (state === 'running' && progress.step) return progress.step.seconds_remaining ?? Number.POSITIVE_INFINITY
  const elapsed = startedAt !== null && attempt === 1 ? (now - Date.parse(startedAt)) / 1000 : 0
  return Math.max(0, secondsToRun(job) - elapsed)
}

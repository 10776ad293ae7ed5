/**
 * transition: the only list of states and of legal moves between them, a pure function. docs/states.md draws it, and a
 * test keeps the two in step.
 *
 * `intent` is what is still to be done for the user: 'stop' exactly in stopping, 'pause' at times in preparing and
 * running, 'run' everywhere else. `fruitlessAttempts` counts up with every claim and back to 0 with every checkpoint.
 */
import type { JobState } from '@mlx-training/contract'
import type { JobUpdate, NewEvent } from '../store/port.ts'
import type { Job } from './port.ts'
import { warned } from './warned.ts'

export type JobCommand = 'stop' | 'pause' | 'resume'

export type Input =
  | { type: JobCommand }
  /** The runner takes it. */
  | { type: 'claim' }
  /** The engine has loaded everything; the first step comes next. */
  | { type: 'prepared' }
  /** `reason`: why before its last step. */
  | { type: 'completed'; reason?: string | null }
  /** The engine ended as asked: to stop, to pause, or because the server goes down (then `reason` says so). */
  | { type: 'yielded'; reason: string }
  /** Trying again may help; when memory ran out, with less of a step in memory at a time. */
  | { type: 'crashed'; reason: string; log?: string[]; outOfMemory?: boolean }
  /** Trying again is pointless. */
  | { type: 'refused'; reason: string; log?: string[] }
  /** The disk is full. */
  | { type: 'blocked'; reason: string; log?: string[] }
  /** It has room again. */
  | { type: 'unblocked' }

const BACKOFF_MILLISECONDS = 1000
const MAX_DOUBLINGS = 4

/** How long a job that crashed is left alone: what made it crash, such as another program that fills the memory, may be
 *  over soon. 0 after an attempt that made a checkpoint; else twice as long each time. */
export const backoffOf = (
  { fruitlessAttempts }: Pick<Job, 'fruitlessAttempts'>,
  first = BACKOFF_MILLISECONDS,
): number => (fruitlessAttempts === 0 ? 0 : first * 2 ** Math.min(fruitlessAttempts - 1, MAX_DOUBLINGS))

export type Transition = JobUpdate | { conflict: string }

export const ENDED: readonly JobState[] = ['completed', 'stopped', 'failed']
/** A process or a download may be at work. */
export const AT_WORK: readonly JobState[] = ['preparing', 'running', 'stopping']

/** Claims in a row without a new checkpoint, after which a crashing job has failed. */
export const MAX_FRUITLESS = 5
/** The same when memory ran out at the last of them. Each such attempt halves what is computed at a time: 64 rows are one
 *  row after six, and its layers recomputed after the seventh, which leaves nothing to try. */
export const MAX_FRUITLESS_OUT_OF_MEMORY = 8

/** `at`: the time of the move, RFC 3339. An empty change means that what is asked for is so already. */
export function transition(job: Job, input: Input, at: string): Transition {
  const { state, intent } = job
  const working = state === 'preparing' || state === 'running'
  const { waitsFor } = job.progress
  const waiting = waitsFor ? { progress: { ...job.progress, waitsFor: null } } : {}
  const move = (to: JobState, reason: string | null, change: JobUpdate['change'] = {}, log: string[] = []) =>
    moved(job, to, reason, { intent: 'run', ...waiting, ...change }, log, at)

  switch (input.type) {
    case 'stop':
      if (state === 'queued' || state === 'paused') return move('stopped', 'Stopped on request')
      if (working) return move('stopping', 'Stopping on request', { intent: 'stop' })
      if (state === 'stopping') return UNCHANGED
      break
    case 'pause':
      if (state === 'queued' || (state === 'paused' && waitsFor)) return move('paused', 'Paused on request')
      if (state === 'paused' || (working && intent === 'pause')) return UNCHANGED
      if (working) return move(state, 'Pausing on request', { intent: 'pause' })
      break
    case 'resume':
      if (state === 'paused' || state === 'stopped' || state === 'failed')
        return move('queued', null, { fruitlessAttempts: 0 })
      // The engine is already saving its checkpoint; it then goes on instead of staying paused.
      if (working && intent === 'pause') return move(state, null)
      break
    case 'claim':
      if (state === 'queued')
        return move('preparing', null, {
          attempt: job.attempt + 1,
          fruitlessAttempts: job.fruitlessAttempts + 1,
          startedAt: job.startedAt ?? at,
        })
      break
    case 'prepared':
      if (state === 'preparing') return move('running', job.reason, { intent })
      if (state === 'stopping') return UNCHANGED
      break
    case 'completed':
      if (working || state === 'stopping') return move('completed', input.reason ?? null)
      break
    case 'yielded': {
      // A claim that ended as it was asked to doesn't count.
      const change = { fruitlessAttempts: Math.max(0, job.fruitlessAttempts - 1) }
      if (state === 'stopping') return move('stopped', 'Stopped on request', change)
      if (working && intent === 'pause') return move('paused', 'Paused on request', change)
      if (working) return move('queued', input.reason, change)
      break
    }
    case 'crashed':
      return crashed(job, input, move, at) ?? conflict(job)
    case 'refused':
    case 'blocked':
      if (state === 'stopping')
        return move('stopped', `Stopped, but not as it should: ${input.reason}${kept(job)}`, {}, input.log)
      if (working && input.type === 'refused') return move('failed', input.reason, {}, input.log)
      if (working)
        return move(
          'paused',
          input.reason,
          {
            fruitlessAttempts: Math.max(0, job.fruitlessAttempts - 1),
            progress: { ...job.progress, waitsFor: intent === 'pause' ? null : 'room' },
          },
          input.log,
        )
      break
    case 'unblocked':
      if (state === 'paused' && waitsFor) return move('queued', 'There is room on the disk again')
  }
  return conflict(job)
}

type Move = (to: JobState, reason: string, change: JobUpdate['change'], log?: string[]) => JobUpdate

function crashed(job: Job, input: Input & { type: 'crashed' }, move: Move, at: string): JobUpdate | null {
  const { reason, log, outOfMemory = false } = input
  const progress = outOfMemory ? { ...job.progress, memoryLevel: job.progress.memoryLevel + 1 } : job.progress
  if (job.state === 'stopping')
    return move('stopped', `Stopped, but not as it should: ${reason}${kept(job)}`, { progress }, log)
  if (!AT_WORK.includes(job.state)) return null
  if (job.intent === 'pause')
    return move('paused', `Paused, but not as it should: ${reason}${kept(job)}`, { progress }, log)
  if (job.fruitlessAttempts >= (outOfMemory ? MAX_FRUITLESS_OUT_OF_MEMORY : MAX_FRUITLESS)) {
    const attempts = `${job.fruitlessAttempts} attempts without a new checkpoint`
    const advice = outOfMemory ? '. A smaller batch_size or max_seq_length, or QLoRA, takes less' : ''
    return move(
      'failed',
      `Given up after ${attempts}. The last one: ${reason}${advice}${lastOf(log)}`,
      { progress },
      log,
    )
  }
  const next = outOfMemory
    ? `${reason}. Going on with less in memory at a time (level ${progress.memoryLevel})`
    : reason
  const step = job.progress.checkpoints.at(-1)?.step
  const from = step === undefined ? 'the start' : `step ${step}`
  const warnings = warned(progress, `Attempt ${job.attempt} ended: ${next}; from ${from}`)
  const interruption = { attempt: job.attempt, at, reason: next }
  return move('queued', next, { progress: { ...progress, warnings, interruption } }, log)
}

const conflict = (job: Job): Transition => ({
  conflict: `Experiment "${job.name}" is ${job.state}: ${POSSIBLE[job.state]}`,
})

const UNCHANGED: JobUpdate = { change: {}, events: [] }

const POSSIBLE: Record<JobState, string> = {
  queued: 'it can be paused or stopped',
  preparing: 'it can be paused or stopped',
  running: 'it can be paused or stopped',
  paused: 'it can be resumed or stopped',
  stopping: 'wait until it has stopped',
  stopped: 'it can be resumed or deleted',
  failed: 'it can be resumed or deleted',
  completed: 'start another experiment to train further',
}

function moved(
  job: Job,
  to: JobState,
  reason: string | null,
  change: JobUpdate['change'],
  log: string[],
  at: string,
): JobUpdate {
  const ended = ENDED.includes(to)
  const attempt = change.attempt ?? job.attempt
  const events: NewEvent[] = []
  if (log.length > 0) events.push({ type: 'log', data: { lines: log } })
  events.push({ type: 'state', data: { state: to, reason, attempt } })
  if (ended) events.push({ type: 'end', data: { state: to, reason } })
  return { change: { ...change, state: to, reason, completedAt: ended ? at : null }, events }
}

const LINES_IN_REASON = 3

/** The end of the engine's log; all of what it kept is in the log event. */
function lastOf(log: string[] = []): string {
  return log.length === 0 ? '' : `. Its log ends: ${log.slice(-LINES_IN_REASON).join(' | ').slice(-1000)}`
}

/** What of its work is safe. */
function kept(job: Job): string {
  const step = job.progress.checkpoints.at(-1)?.step
  return step === undefined ? '; no checkpoint had been saved' : `; saved up to step ${step}`
}

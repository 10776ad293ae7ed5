import {
  type CommandResponse,
  type DeleteResponse,
  type JobState,
  type PriorityResponse,
  ServiceError,
} from '@mlx-training/contract'
import { readHistory } from '../events/history.ts'
import type { EventLog } from '../events/port.ts'
import type { JobChanges } from '../jobs/changes.ts'
import { createDryRun, type DryRunDeps } from '../jobs/dry-run.ts'
import type { Job, Place } from '../jobs/port.ts'
import type { StartDeps } from '../jobs/start.ts'
import { statusOf, summariesOf } from '../jobs/status.ts'
import type { Swept } from '../jobs/sweeper.ts'
import type { Metrics } from '../metrics/metrics.ts'
import type { Store } from '../store/port.ts'
import { clientSignal } from './client-signal.ts'
import { startAfter } from './events.ts'
import { sendModel } from './model-archive.ts'
import type { Handlers } from './routes.ts'
import { EVENT_STREAM, type SseTimes, sendEvents } from './sse.ts'
import { start } from './start.ts'

type TrainRoutes =
  | 'trainStart'
  | 'trainEstimate'
  | 'trainStatus'
  | 'trainRequest'
  | 'trainModel'
  | 'trainList'
  | 'trainChanges'
  | 'trainStop'
  | 'trainPause'
  | 'trainResume'
  | 'trainPriority'
  | 'trainClone'
  | 'trainDelete'
  | 'trainEvents'
  | 'trainHistory'

export function train(
  deps: StartDeps &
    DryRunDeps & {
      store: Pick<Store, 'answer'>
      events: EventLog
      changes: JobChanges
      closing: AbortSignal
      sseTimes?: SseTimes
      metrics: Metrics
    },
): Pick<Handlers, TrainRoutes> {
  const { jobs, events, changes, closing, sseTimes, metrics } = deps
  const find = async (name: string): Promise<Job> => {
    const job = await jobs.get(name)
    if (job) return job
    throw new ServiceError('not_found', `There is no experiment "${name}"; GET /train lists them`)
  }
  const placeOf = async (job: Job) => (job.state === 'queued' ? (await jobs.places()).get(job.id) : undefined)
  const dryRun = createDryRun(deps)
  return {
    ...start(deps, find),
    trainEstimate: async ({ body, reply }) => {
      const client = clientSignal(reply, closing)
      return await dryRun(body, client.signal).finally(client.release)
    },
    trainStatus: async ({ params }) => {
      const job = await find(params.name)
      return statusOf(job, await placeOf(job))
    },
    trainRequest: async ({ params }) => (await find(params.name)).request,
    trainModel: async ({ params, query, request, reply }) =>
      await sendModel(await find(params.name), query.step ?? null, request, reply),
    trainList: async () => ({ training_jobs: await summariesOf(jobs) }),
    trainChanges: async ({ request, reply }) => {
      if (request.method === 'HEAD') return void reply.type(EVENT_STREAM).send()
      // What fails here is answered with its own status; later the stream has begun.
      await changes.fresh()
      const last = request.headers['last-event-id']
      const after = typeof last === 'string' ? last : ''
      await sendEvents(reply, (signal) => changes.follow(after, signal), closing, metrics, sseTimes)
    },
    trainStop: async ({ params }) => commanded(await jobs.stop(params.name), STOPPED),
    trainPause: async ({ params }) => commanded(await jobs.pause(params.name), PAUSED),
    trainResume: async ({ params }) => commanded(await jobs.resume(params.name), RESUMED),
    trainPriority: async ({ params, body }) => {
      const job = await jobs.prioritize(params.name, body.priority)
      return moved(job, await placeOf(job))
    },
    trainDelete: async ({ params }) => {
      const { job, swept } = await jobs.remove(params.name)
      return removed(job, swept)
    },
    trainHistory: async ({ params, query: { after, limit } }) => {
      const job = await find(params.name)
      // Beyond its end: of an experiment that was replaced by this one, which is told from its start.
      const history = await readHistory(events, job.id, after > job.lastEventId ? 0 : after, limit)
      return { experiment_name: job.name, job_id: job.id, status: job.state, ...history }
    },
    trainEvents: async ({ params, request, reply }) => {
      const job = await find(params.name)
      const after = startAfter(request, job)
      if (request.method === 'HEAD') return void reply.type(EVENT_STREAM).send()
      await sendEvents(reply, (signal) => events.follow(job.id, after, signal), closing, metrics, sseTimes)
    },
  }
}

type Messages = Partial<Record<JobState, string>>

const STOPPED: Messages = {
  stopping: 'Training job is being stopped',
  stopped: 'Training job is stopped; it was not running. It can be resumed, or deleted',
}
const PAUSED: Messages = {
  paused: 'Training job is paused',
  preparing: 'Training job is being paused; what it learned is saved first',
  running: 'Training job is being paused; what it learned is saved first',
}
const RESUMED: Messages = {
  queued: 'Training job is queued; it goes on from its last checkpoint',
}

function commanded(job: Job, messages: Messages): CommandResponse {
  return {
    experiment_name: job.name,
    status: job.state,
    message: messages[job.state] ?? `Training job is ${job.state}`,
  }
}

/** It may have been taken between the move and the look at the queue: then it was next. */
function moved({ name, state, priority }: Job, place: Place | undefined): PriorityResponse {
  const position = place?.position ?? 0
  return {
    experiment_name: name,
    status: state,
    priority,
    queue_position: position,
    estimated_start: place?.start ?? null,
    message: position === 0 ? 'Next to run' : `Runs after ${position} other ${position === 1 ? 'job' : 'jobs'}`,
  }
}

function removed({ name, plan: { outputDir } }: Job, swept: Swept): DeleteResponse {
  const answer = { experiment_name: name, deleted: true as const }
  if (swept instanceof Error) {
    const message = `Deleted, but files in ${outputDir} could not be removed (${swept.message}): tried again at the next start`
    return { ...answer, message }
  }
  const { folder, kept } = swept
  if (folder === 'not_ours')
    return { ...answer, message: `Deleted. Nothing in ${outputDir} was touched: it does not carry this job's mark` }
  if (kept.length === 0) return { ...answer, message: 'Deleted, with all of its files' }
  return { ...answer, message: `Deleted. Files in ${outputDir} that it had not made were kept`, kept_files: kept }
}

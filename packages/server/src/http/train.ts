import { type CommandResponse, type JobState, ServiceError } from '@mlx-training/contract'
import type { EventLog } from '../events/port.ts'
import { createDryRun, type DryRunDeps } from '../jobs/dry-run.ts'
import type { Job } from '../jobs/port.ts'
import { type StartDeps, startTraining } from '../jobs/start.ts'
import { statusOf, summaryOf } from '../jobs/status.ts'
import { clientSignal } from './client-signal.ts'
import { cursorOf, startAfter } from './events.ts'
import type { Handlers } from './routes.ts'
import { EVENT_STREAM, type SseTimes, sendEvents } from './sse.ts'

type TrainRoutes =
  | 'trainStart'
  | 'trainEstimate'
  | 'trainStatus'
  | 'trainList'
  | 'trainStop'
  | 'trainPause'
  | 'trainResume'
  | 'trainEvents'

export function train(
  deps: StartDeps & DryRunDeps & { events: EventLog; closing: AbortSignal; sseTimes?: SseTimes },
): Pick<Handlers, TrainRoutes> {
  const { jobs, events, closing, sseTimes } = deps
  const find = async (name: string): Promise<Job> => {
    const job = await jobs.get(name)
    if (job) return job
    throw new ServiceError('not_found', `There is no experiment "${name}"; GET /train lists them`)
  }
  const dryRun = createDryRun(deps)
  return {
    trainStart: ({ body }) => startTraining(body, deps),
    trainEstimate: async ({ body, reply }) => {
      const client = clientSignal(reply, closing)
      return await dryRun(body, client.signal).finally(client.release)
    },
    trainStatus: async ({ params }) => {
      const job = await find(params.name)
      return statusOf(job, await jobs.queuePosition(job))
    },
    trainList: async () => ({ training_jobs: (await jobs.list()).map(summaryOf) }),
    trainStop: async ({ params }) => commanded(await jobs.stop(params.name), STOPPED),
    trainPause: async ({ params }) => commanded(await jobs.pause(params.name), PAUSED),
    trainResume: async ({ params }) => commanded(await jobs.resume(params.name), RESUMED),
    trainEvents: async ({ params, request, reply }) => {
      const cursor = cursorOf(request)
      const job = await find(params.name)
      if (request.method === 'HEAD') return void reply.type(EVENT_STREAM).send()
      await sendEvents(reply, (signal) => events.follow(job.id, startAfter(job, cursor), signal), closing, sseTimes)
    },
  }
}

type Messages = Partial<Record<JobState, string>>

const STOPPED: Messages = {
  stopping: 'Training job is being stopped',
  stopped: 'Training job was stopped; nothing of it was running',
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

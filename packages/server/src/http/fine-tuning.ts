/** /v1/fine_tuning/jobs: the jobs of /train in OpenAI's words. */
import { type FineTuningJob, type FineTuningRequest, ServiceError } from '@mlx-training/contract'
import type { FastifyReply } from 'fastify'
import type { Library } from '../datasets/library/port.ts'
import type { EventLog } from '../events/port.ts'
import { AT_WORK } from '../jobs/machine.ts'
import type { Job, Once } from '../jobs/port.ts'
import { queueTraining, type StartDeps } from '../jobs/start.ts'
import { savedCheckpoints } from '../models/fine-tuned.ts'
import { parseFineTuned } from '../models/names.ts'
import { fineTuningCheckpoint } from '../openai/fine-tuning/checkpoints.ts'
import { fineTuningEvent } from '../openai/fine-tuning/events.ts'
import { noFile } from '../openai/fine-tuning/files.ts'
import { checkpointId, datasetIdOf, eventId, fineTuningId, jobIdOf, numberOf } from '../openai/fine-tuning/ids.ts'
import { fineTuningJob } from '../openai/fine-tuning/job.ts'
import { pageOf, unknownAfter } from '../openai/fine-tuning/page.ts'
import { inFacadeWords, refuseUnsupported, startRequest } from '../openai/fine-tuning/request.ts'
import type { Store } from '../store/port.ts'
import { clientSignal } from './client-signal.ts'
import { createIdempotency } from './idempotency.ts'
import type { Handlers } from './routes.ts'
import { startChecker } from './start.ts'

type FineTuningRoutes =
  | 'fineTuningCreate'
  | 'fineTuningList'
  | 'fineTuningGet'
  | 'fineTuningCancel'
  | 'fineTuningPause'
  | 'fineTuningResume'
  | 'fineTuningEvents'
  | 'fineTuningCheckpoints'

type Deps = StartDeps & {
  store: Pick<Store, 'answer'>
  library: Library
  events: EventLog
  closing: AbortSignal
}

/** An engine saves what it has within 5 s, and is killed after 10. */
const SETTLE_MS = 15_000

export function fineTuning(deps: Deps): Pick<Handlers, FineTuningRoutes> {
  const { jobs, library, events, closing } = deps
  const idempotent = createIdempotency(deps.store)
  const check = startChecker()

  async function find(id: string): Promise<Job> {
    const job = await jobs.byId(jobIdOf(id) ?? '')
    if (job) return job
    const message = `Could not find fine tune: ${JSON.stringify(id.slice(0, 100))}. GET /v1/fine_tuning/jobs lists those that are there`
    throw new ServiceError('not_found', message, { errors: [{ field: 'fine_tune_id', message }] })
  }

  /** Rows of a file, at least one: what "auto" goes by. */
  async function rowsOf(datasetId: string | null, id: string, field: string): Promise<number> {
    const dataset = datasetId && (await library.get(datasetId).catch(() => null))
    if (!dataset) throw noFile(id, field)
    return Math.max(1, dataset.valid_rows)
  }

  async function sourceOf(model: string): Promise<Job | null> {
    const named = parseFineTuned(model)
    if (!named && !model.startsWith('ft:')) return null
    const job = named && (await jobs.get(named.experiment))
    if (job) return job
    const hint = named ? '' : ': what is fine-tuned here is called fine-tuned/NAME'
    const message = `There is no model ${JSON.stringify(model.slice(0, 200))}${hint}. GET /v1/models lists those that are here`
    throw new ServiceError('not_found', message, { errors: [{ field: 'model', message }] })
  }

  async function create(body: FineTuningRequest, once: Once | null): Promise<FineTuningJob> {
    refuseUnsupported(body)
    const training = datasetIdOf(body.training_file)
    const rows = await rowsOf(training, body.training_file, 'training_file')
    const validation = body.validation_file == null ? null : datasetIdOf(body.validation_file)
    if (body.validation_file != null) await rowsOf(validation, body.validation_file, 'validation_file')
    const source = await sourceOf(body.model)
    const request = startRequest(body, { training: training ?? '', validation, rows, source })
    try {
      const checked = check(request)
      if (checked instanceof ServiceError) throw checked
      const answer = (job: Job) => fineTuningJob(job)
      return await queueTraining(checked, deps, { answer, once, metadata: body.metadata ?? null })
    } catch (error) {
      throw inFacadeWords(error)
    }
  }

  /** What the command came to, once it has had its effect. */
  async function commanded(
    id: string,
    command: 'stop' | 'pause' | 'resume',
    reply: FastifyReply,
    settled: (job: Job) => boolean,
  ): Promise<FineTuningJob> {
    const { name } = await find(id)
    const job = await jobs[command](name).catch((error) => {
      throw final(error, id)
    })
    const client = clientSignal(reply, closing)
    try {
      const signal = AbortSignal.any([client.signal, AbortSignal.timeout(SETTLE_MS)])
      let now = job
      if (!settled(now))
        for await (const _ of events.follow(job.id, job.lastEventId, signal)) {
          now = (await jobs.byId(job.id)) ?? now
          if (settled(now)) break
        }
      return fineTuningJob(now)
    } finally {
      client.release()
    }
  }

  return {
    fineTuningCreate: async ({ body, request, reply }) => {
      const job = await idempotent(request, reply, (once) => create(body, once))
      request.log.info({ job_id: jobIdOf(job.id) }, 'job accepted')
      return job
    },

    fineTuningList: async ({ query }) => {
      const keep = filterOf(query)
      const { data, has_more } = pageOf(await jobs.list(), ({ id }) => fineTuningId(id), query, keep)
      return { object: 'list', data: data.map((job) => fineTuningJob(job)), has_more }
    },

    fineTuningGet: async ({ params }) => fineTuningJob(await find(params.id)),

    fineTuningCancel: ({ params, reply }) => commanded(params.id, 'stop', reply, ({ state }) => state !== 'stopping'),
    fineTuningPause: ({ params, reply }) =>
      commanded(params.id, 'pause', reply, ({ state, intent }) => intent !== 'pause' || !AT_WORK.includes(state)),
    fineTuningResume: ({ params, reply }) => commanded(params.id, 'resume', reply, () => true),

    fineTuningEvents: async ({ params, query: { after, limit } }) => {
      const job = await find(params.id)
      const before = after === undefined ? job.lastEventId + 1 : numberOf(after)
      if (after !== undefined && (eventId(job.id, before) !== after || before > job.lastEventId))
        throw unknownAfter(after)
      const found = await events.before(job.id, before, limit + 1)
      const data = found.slice(0, limit).map((event) => fineTuningEvent(job, event))
      return { object: 'list', data, has_more: found.length > limit }
    },

    fineTuningCheckpoints: async ({ params, query }) => {
      const job = await find(params.id)
      const saved = (await savedCheckpoints(job)).reverse()
      const { data, has_more } = pageOf(saved, ({ step }) => checkpointId(job.id, step), query)
      const evaluations = data.length > 0 ? await events.after(job.id, 0, Number.MAX_SAFE_INTEGER, ['eval']) : []
      const page = data.map((checkpoint) => fineTuningCheckpoint(job, checkpoint, evaluations))
      return { object: 'list', data: page, first_id: page[0]?.id ?? null, last_id: page.at(-1)?.id ?? null, has_more }
    },
  }
}

/** `metadata[key]=value` of a query; `metadata=null`: those that have none. */
function filterOf(query: Record<string, unknown>): (job: Job) => boolean {
  const asked = Object.entries(query).flatMap(([name, value]): [string, unknown][] => {
    const key = /^metadata\[(.*)\]$/s.exec(name)?.[1]
    return key === undefined ? [] : [[key, value]]
  })
  return ({ plan: { metadata } }) =>
    (query.metadata === undefined || !metadata) &&
    asked.every(([key, value]) => metadata != null && Object.hasOwn(metadata, key) && metadata[key] === value)
}

/** What is not possible now is a 400, as at OpenAI: its SDKs would send a 409 again. */
function final(error: unknown, given: string): unknown {
  if (!(error instanceof ServiceError) || error.code !== 'conflict') return error
  const { message } = error
  return new ServiceError('invalid_parameters', message, { errors: [{ field: 'fine_tune_id', message, given }] })
}

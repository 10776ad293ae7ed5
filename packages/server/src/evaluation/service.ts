/** createEvaluations: the queue of evaluations, and what is known of each. */
import { randomBytes } from 'node:crypto'
import { type EvaluateRequest, type EvaluationState, type ModelEvaluation, ServiceError } from '@mlx-training/contract'
import type { BaseLogger } from 'pino'
import type { Datasets, Snapshot } from '../datasets/port.ts'
import type { Engine } from '../engine/port.ts'
import { atField, workingEngine } from '../jobs/resolve.ts'
import type { Sweeper } from '../jobs/sweeper.ts'
import type { Providers } from '../providers/index.ts'
import { findWeights, type WeightsDeps } from '../providers/weights.ts'
import type { EvaluationRecord, Store } from '../store/port.ts'
import { createAsker } from './answer.ts'
import type { Evaluations, Told } from './port.ts'
import { pendingResult } from './results.ts'
import { runEvaluation } from './run.ts'

export interface EvaluationsDeps extends WeightsDeps {
  store: Pick<Store, 'evaluations'>
  engine: Pick<Engine, 'ready' | 'evaluate'>
  datasets: Pick<Datasets, 'snapshot'>
  sweeper: Pick<Sweeper, 'holding'>
  providers: Pick<Providers, 'route' | 'cost'>
  /** For tokenised data sets. */
  tokenCache: string
  log: Pick<BaseLogger, 'info' | 'warn' | 'error'>
}

/** Beyond these that wait, the next one is sent away. */
export const EVALUATION_QUEUE = 32
/** Of the engine's places for answers, which others want, too. */
const ASKED_AT_ONCE = 4
const RESTARTED = 'The server was restarted: send the request again'

interface Entry {
  record: EvaluationRecord
  /** null: of one that an earlier server accepted, whose copies are gone. */
  snapshot: Snapshot | null
  request: EvaluateRequest
  abort: AbortController
  ended: Promise<void>
  /** Ends it before its turn. */
  leave(): void
}

export function createEvaluations(deps: EvaluationsDeps): Evaluations {
  const { store, engine, datasets, sweeper, providers, log } = deps
  const asker = createAsker(providers, ASKED_AT_ONCE)
  const queue: Entry[] = []
  const live = new Map<string, Entry>()
  let running: Entry | null = null
  let accepting = 0
  let closed = false

  const told = (record: EvaluationRecord): Told => {
    const position = queue.findIndex((entry) => entry.record.id === record.id)
    return { record, position: position < 0 ? null : position }
  }
  const known = async (id: string) => live.get(id)?.record ?? (await store.evaluations.get(id))

  async function accept(request: EvaluateRequest): Promise<Entry> {
    await workingEngine(engine, 'An evaluation')
    const warnings: string[] = []
    const trainedOn = new Map<string, string>()
    for (const [i, model] of request.models.entries())
      await atField(`models.${i}`, async () => {
        const { provider, model: name } = providers.route({ model })
        if (provider.name !== 'local_mlx') throw hosted(model)
        const { job } = await findWeights(name, deps)
        if (job) trainedOn.set(model, job.plan.dataset.sha256)
      })
    const { dataset_path, held_out } = request.dataset
    const snapshot = await read(request)
    for (const [model, sha256] of trainedOn)
      if (sha256 === snapshot.sha256 && held_out === undefined)
        warnings.push(`${model} was trained on this very data set: its loss says what it has learned by heart`)
    const record: EvaluationRecord = {
      id: newId(),
      state: 'queued',
      reason: null,
      created_at: new Date().toISOString(),
      started_at: null,
      completed_at: null,
      models: request.models,
      dataset_path,
      progress: null,
      request,
      dataset_rows: snapshot.samples,
      warnings: [...warnings, ...snapshot.report.warnings],
      results: request.models.map(pendingResult),
      samples: [],
    }
    await store.evaluations.insert(record)
    return entryOf(record, snapshot)
  }

  const read = ({ dataset: { dataset_path, dataset_format, columns, tags } }: EvaluateRequest) =>
    atField('dataset.dataset_path', () => datasets.snapshot(dataset_path, dataset_format, { columns, tags }))

  /** Until it has ended: only then may its copy of the data go. */
  async function enqueue(entry: Entry): Promise<void> {
    // It stays queued, for the next server.
    if (closed) return
    live.set(entry.record.id, entry)
    queue.push(entry)
    next()
    await entry.ended
  }

  function next(): void {
    if (running || closed) return
    const entry = queue.shift()
    if (!entry) return
    running = entry
    void work(entry).finally(() => {
      running = null
      entry.leave()
      next()
    })
  }

  async function work(entry: Entry): Promise<void> {
    const { record, request, abort } = entry
    const save = () => store.evaluations.put(record)
    record.state = 'running'
    record.started_at = new Date().toISOString()
    log.info({ evaluation: record.id }, 'evaluation started')
    try {
      await save()
      const snapshot = entry.snapshot ?? (await read(request))
      record.dataset_rows = snapshot.samples
      abort.signal.throwIfAborted()
      await runEvaluation(record, request, snapshot, { ...deps, asker, save }, abort.signal)
      await finish(entry, ...outcome(record))
    } catch (error) {
      if (abort.signal.aborted) return await finish(entry, ...(abort.signal.reason as Ending))
      if (!(error instanceof ServiceError)) log.error({ err: error, evaluation: record.id }, 'an evaluation broke')
      const reason =
        error instanceof ServiceError ? error.message : 'Something went wrong inside the server; see its log'
      await finish(entry, 'failed', reason)
    }
  }

  async function finish({ record }: Entry, state: EvaluationState, reason: string | null): Promise<void> {
    record.state = state
    record.reason = reason
    record.completed_at = new Date().toISOString()
    record.progress = null
    for (const result of record.results)
      if (result.state === 'running' || result.state === 'pending') cutShort(result, state, reason)
    try {
      await store.evaluations.put(record)
    } catch (error) {
      log.error({ err: error, evaluation: record.id }, 'the end of an evaluation could not be written')
    }
    live.delete(record.id)
    log.info({ evaluation: record.id, state }, 'evaluation ended')
  }

  /** Of one that waits, at once; of one that runs, as soon as it notices. */
  async function stop(entry: Entry, ending: Ending): Promise<void> {
    const place = queue.indexOf(entry)
    if (place < 0) {
      entry.abort.abort(ending)
      await entry.ended
      return
    }
    queue.splice(place, 1)
    await finish(entry, ...ending)
    entry.leave()
  }

  return {
    async submit(request) {
      if (closed) throw new ServiceError('unavailable', 'The server is shutting down', { retryAfter: 5 })
      if (queue.length + accepting >= EVALUATION_QUEUE)
        throw new ServiceError(
          'rate_limited',
          `${EVALUATION_QUEUE} evaluations are waiting already: cancel one with POST /evaluate/ID/cancel, or send it later`,
          { retryAfter: 60 },
        )
      accepting++
      return await new Promise<Told>((resolve, reject) => {
        // Its copy of the data stays until it has ended.
        const held = sweeper.holding(async () => {
          const entry = await accept(request).finally(() => accepting--)
          const begun = enqueue(entry)
          resolve(told(entry.record))
          await begun
        })
        held.catch(reject)
      })
    },
    async get(id) {
      const record = await known(id)
      if (!record) throw unknown(id)
      return told(record)
    },
    async list(limit, after) {
      return (await store.evaluations.list(limit, after)).map((record) => told(live.get(record.id)?.record ?? record))
    },
    async cancel(id) {
      const entry = live.get(id)
      if (entry) await stop(entry, ['cancelled', null])
      const record = entry?.record ?? (await store.evaluations.get(id))
      if (!record) throw unknown(id)
      return told(record)
    },
    async remove(id) {
      const entry = live.get(id)
      if (entry)
        throw new ServiceError(
          'conflict',
          `Evaluation ${id} is ${entry.record.state}: cancel it first with POST /evaluate/${id}/cancel, then delete it`,
        )
      const removed = await store.evaluations.remove(id)
      if (!removed) throw unknown(id)
      return told(removed)
    },
    async start() {
      for (const record of await store.evaluations.unended()) {
        if (record.state === 'queued') {
          log.info({ evaluation: record.id }, 'an evaluation that waited goes on waiting')
          const held = sweeper.holding(() => enqueue(entryOf(record, null)))
          held.catch((error) => log.error({ err: error, evaluation: record.id }, 'an evaluation broke'))
          continue
        }
        log.warn({ evaluation: record.id }, 'an evaluation that was running has been interrupted')
        await finish(entryOf(record, null), 'interrupted', RESTARTED)
      }
    },
    async close() {
      closed = true
      // Those that wait are left as they are: the next server goes on with them.
      for (const entry of queue.splice(0)) {
        live.delete(entry.record.id)
        entry.leave()
      }
      await Promise.all([...live.values()].map((entry) => stop(entry, ['interrupted', RESTARTED])))
    },
  }
}

type Ending = [state: EvaluationState, reason: string | null]

function entryOf(record: EvaluationRecord, snapshot: Snapshot | null): Entry {
  let leave = () => {}
  const ended = new Promise<void>((resolve) => {
    leave = resolve
  })
  // It was stored as it had been accepted.
  const request = record.request as EvaluateRequest
  return { record, snapshot, request, abort: new AbortController(), ended, leave }
}

function outcome({ results }: EvaluationRecord): Ending {
  const failed = results.filter(({ state }) => state === 'failed')
  const [first] = failed
  if (!first) return ['completed', null]
  if (failed.length === results.length) return ['failed', first.error]
  return ['completed', `${failed.length} of ${results.length} models failed: ${first.model}: ${first.error}`]
}

/** A model whose turn had not ended, or had not come. */
function cutShort(result: ModelEvaluation, state: EvaluationState, reason: string | null): void {
  result.state = state === 'cancelled' || state === 'interrupted' ? state : 'failed'
  result.error ??= reason
}

const newId = () => `ev_${[...randomBytes(20)].map((byte) => (byte % 36).toString(36)).join('')}`

const unknown = (id: string) =>
  new ServiceError('not_found', `There is no evaluation "${id}": GET /evaluate lists them all`)

const hosted = (model: string) =>
  new ServiceError(
    'invalid_parameters',
    `${model} is a hosted model, whose losses can't be had: compare its answers with POST /compare`,
  )

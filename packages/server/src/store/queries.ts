/**
 * The store over any SQL database that Kysely speaks to; a driver brings the connection and names its errors.
 * Nothing is cached: with statements prepared anew each time, an update with its event costs 0.4 ms of CPU, 0.5 to 0.8 ms
 * with the disk's sync, which is noise beside a training step.
 */
import { randomBytes } from 'node:crypto'
import { ServiceError } from '@mlx-training/contract'
import type { Kysely, Transaction } from 'kysely'
import { sql } from 'kysely'
import type { Job } from '../jobs/port.ts'
import { createOutbox, enqueue } from './outbox.ts'
import type { JobUpdate, NewEvent, Store, StoreOptions } from './port.ts'
import { fromKey, NO_PROGRESS, type Tables, toColumns, toEvent, toJob, toKey } from './schema.ts'

export interface Driver {
  db: Kysely<Tables>
  /** What went wrong, by the driver's own codes. */
  classify(error: unknown): 'unique' | 'full' | 'busy' | 'other'
}

export function createStore({ db, classify }: Driver, { onEnd }: StoreOptions = {}): Store {
  /** One transaction. Violations and a full disk come out as ServiceErrors, everything else as it is. */
  async function transact<T>(work: (trx: Transaction<Tables>) => Promise<T>): Promise<T> {
    try {
      return await db.transaction().execute(work)
    } catch (error) {
      switch (classify(error)) {
        case 'full':
          throw new ServiceError('insufficient_storage', 'The disk that holds the database is full: free some space', {
            retryAfter: 30,
            cause: error,
          })
        case 'busy':
          throw new ServiceError('unavailable', 'The database is locked by another program: try again', {
            retryAfter: 1,
            cause: error,
          })
        default:
          throw error
      }
    }
  }

  /** Writes a change and its events, numbered on from the job's last. */
  async function write(trx: Transaction<Tables>, job: Job, { change, events }: JobUpdate): Promise<Job> {
    const lastEventId = job.lastEventId + events.length
    const columns = toColumns(change)
    if (Object.keys(columns).length + events.length === 0) return job
    try {
      await trx
        .updateTable('jobs')
        .set({ ...columns, last_event_id: lastEventId })
        .where('id', '=', job.id)
        .execute()
    } catch (error) {
      if (classify(error) === 'unique') throw await folderTaken(trx, change.plan?.outputDir ?? job.plan.outputDir)
      throw error
    }
    await append(trx, job.id, job.lastEventId, events)
    const written = { ...job, ...change, lastEventId }
    if (onEnd && events.some(({ type }) => type === 'end')) await enqueue(trx, onEnd(written))
    return written
  }

  return {
    async insertJob(job, events, replace) {
      return transact(async (trx) => {
        for (const name of new Set(replace === undefined ? [job.name] : [job.name, replace]))
          await makeRoom(trx, name, name === replace)
        const row = {
          id: `job_${randomBytes(8).toString('hex')}`,
          name: job.name,
          state: 'queued',
          intent: 'run',
          attempt: 0,
          fruitless_attempts: 0,
          priority: 0,
          request: JSON.stringify(job.request),
          plan: JSON.stringify(job.plan),
          progress: JSON.stringify(NO_PROGRESS),
          output_dir: job.plan.outputDir,
          reason: null,
          created_at: new Date().toISOString(),
          started_at: null,
          completed_at: null,
          last_event_id: events.length,
        } as const
        try {
          await trx
            .insertInto('jobs')
            .values((eb) => ({
              ...row,
              seq: eb.selectFrom('jobs').select(sql<number>`coalesce(max(seq), 0) + 1`.as('next')),
            }))
            .execute()
        } catch (error) {
          if (classify(error) === 'unique') throw await folderTaken(trx, job.plan.outputDir)
          throw error
        }
        await append(trx, row.id, 0, events)
        return toJob({ ...row, seq: 0 })
      })
    },

    async job(name) {
      const row = await db.selectFrom('jobs').selectAll().where('name', '=', name).executeTakeFirst()
      return row ? toJob(row) : null
    },

    async jobById(id) {
      const row = await db.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst()
      return row ? toJob(row) : null
    },

    async jobs(states) {
      const rows = await db
        .selectFrom('jobs')
        .selectAll()
        .$if(states !== undefined, (query) => query.where('state', 'in', states ?? []))
        .orderBy('seq', 'desc')
        .execute()
      return rows.map(toJob)
    },

    async update(id, attempt, decide) {
      return transact(async (trx) => {
        const row = await trx.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst()
        if (!row || (attempt !== null && row.attempt !== attempt)) return null
        const job = toJob(row)
        const update = decide(job)
        return update ? write(trx, job, update) : job
      })
    },

    async claim(decide, except = []) {
      return transact(async (trx) => {
        const row = await trx
          .selectFrom('jobs')
          .selectAll()
          .where('state', '=', 'queued')
          .$if(except.length > 0, (query) => query.where('id', 'not in', except))
          .orderBy('priority', 'desc')
          .orderBy('seq')
          .limit(1)
          .executeTakeFirst()
        if (!row) return null
        const job = toJob(row)
        return write(trx, job, decide(job))
      })
    },

    async eventsAfter(jobId, after, limit) {
      const rows = await db
        .selectFrom('events')
        .selectAll()
        .where('job_id', '=', jobId)
        .where('id', '>', after)
        .orderBy('id')
        .limit(limit)
        .execute()
      return rows.map(toEvent)
    },

    async key(id) {
      const row = await db.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst()
      return row ? toKey(row) : null
    },

    async keys() {
      const rows = await db.selectFrom('api_keys').selectAll().orderBy('created_at').orderBy('id').execute()
      return rows.map(toKey)
    },

    async putKey(key) {
      const { id, ...columns } = fromKey(key)
      await transact((trx) =>
        trx
          .insertInto('api_keys')
          .values({ id, ...columns })
          .onConflict((conflict) => conflict.column('id').doUpdateSet(columns))
          .execute(),
      )
    },

    async countStates() {
      const rows = await db
        .selectFrom('jobs')
        .select((eb) => ['state', eb.fn.countAll<number>().as('n')])
        .groupBy('state')
        .execute()
      return Object.fromEntries(rows.map(({ state, n }) => [state, Number(n)]))
    },

    outbox: createOutbox(db, transact),

    async check() {
      await db.selectFrom('jobs').select('id').limit(1).execute()
    },

    async close() {
      await db.destroy()
    },
  }
}

async function append(trx: Transaction<Tables>, jobId: string, last: number, events: NewEvent[]): Promise<void> {
  if (events.length === 0) return
  const at = new Date().toISOString()
  await trx
    .insertInto('events')
    .values(
      events.map(({ type, data }, index) => ({
        job_id: jobId,
        id: last + 1 + index,
        type,
        at,
        data: JSON.stringify(data),
      })),
    )
    .execute()
}

/** An ended job of that name goes if it is to be replaced; any other is a conflict. Its events go with it. */
async function makeRoom(trx: Transaction<Tables>, name: string, replace: boolean): Promise<void> {
  const taken = await trx
    .selectFrom('jobs')
    .select(['id', 'state', 'completed_at'])
    .where('name', '=', name)
    .executeTakeFirst()
  if (!taken) return
  if (taken.completed_at === null)
    throw new ServiceError(
      'conflict',
      `Experiment "${name}" is ${taken.state}: stop it first, or choose another experiment_name`,
    )
  if (!replace)
    throw new ServiceError(
      'conflict',
      `Experiment "${name}" exists already (${taken.state}): choose another experiment_name, or send "overwrite": true to replace it`,
    )
  await trx.deleteFrom('jobs').where('id', '=', taken.id).execute()
}

async function folderTaken(trx: Transaction<Tables>, outputDir: string): Promise<ServiceError> {
  const owner = await trx
    .selectFrom('jobs')
    .select(['name', 'state'])
    .where('output_dir', '=', outputDir)
    .where('completed_at', 'is', null)
    .executeTakeFirst()
  return new ServiceError(
    'conflict',
    `Experiment "${owner?.name}" (${owner?.state}) writes to ${outputDir}: choose another output_dir, or stop it first`,
  )
}

/** Training jobs: rows, the queue, and every change with its events in one transaction. */
import { randomBytes } from 'node:crypto'
import { ServiceError } from '@mlx-training/contract'
import type { Transaction } from 'kysely'
import type { Job } from '../jobs/port.ts'
import { append } from './events.ts'
import { keepAnswer } from './idempotency.ts'
import { enqueue } from './outbox.ts'
import type { JobUpdate, Store, StoreOptions } from './port.ts'
import { bury } from './removals.ts'
import { NO_PROGRESS, type Tables, toColumns, toJob } from './schema.ts'
import type { Driver, Transact } from './transact.ts'

type Jobs = Pick<Store, 'insertJob' | 'job' | 'jobById' | 'jobs' | 'update' | 'claim' | 'countStates' | 'oldestQueued'>

export function createJobs({ db, classify }: Driver, transact: Transact, { onEnd }: StoreOptions): Jobs {
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
    async insertJob(job, events, { replace, keep } = {}) {
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
          priority: job.request.priority,
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
              seq: eb
                .selectFrom('jobs')
                .select((jobs) => jobs(jobs.fn.coalesce(jobs.fn.max('seq'), jobs.lit(0)), '+', 1).as('next')),
            }))
            .execute()
        } catch (error) {
          if (classify(error) === 'unique') throw await folderTaken(trx, job.plan.outputDir)
          throw error
        }
        await append(trx, row.id, 0, events)
        const inserted = toJob({ ...row, seq: 0 })
        const answer = keep?.(inserted, await aheadOf(trx, inserted))
        if (answer) await keepAnswer(trx, answer)
        return inserted
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

    async countStates() {
      const rows = await db
        .selectFrom('jobs')
        .select((eb) => ['state', eb.fn.countAll<number>().as('n')])
        .groupBy('state')
        .execute()
      return Object.fromEntries(rows.map(({ state, n }) => [state, Number(n)]))
    },

    async oldestQueued() {
      const oldest = await db
        .selectFrom('jobs')
        .select((eb) => eb.fn.min('created_at').as('at'))
        .where('state', '=', 'queued')
        .executeTakeFirst()
      return oldest?.at ?? null
    },
  }
}

/** How many queued jobs come before the newest one. */
async function aheadOf(trx: Transaction<Tables>, { id, priority }: Job): Promise<number> {
  const { n } = await trx
    .selectFrom('jobs')
    .select((eb) => eb.fn.countAll<number>().as('n'))
    .where('state', '=', 'queued')
    .where('priority', '>=', priority)
    .where('id', '!=', id)
    .executeTakeFirstOrThrow()
  return Number(n)
}

/** An ended job of that name goes if it is to be replaced; any other is a conflict. */
async function makeRoom(trx: Transaction<Tables>, name: string, replace: boolean): Promise<void> {
  const taken = await trx
    .selectFrom('jobs')
    .select(['id', 'name', 'output_dir', 'state', 'completed_at'])
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
  await bury(trx, taken)
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

/**
 * Orders of users, of the runner and of workers, some of which have lost their lease, in any sequence over the real store:
 * no job is lost, torn, written by a stale worker, or left without a way to its end.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Frame, ServiceError } from '@mlx-training/contract'
import fc from 'fast-check'
import pino from 'pino'
import { expect, it } from 'vitest'
import { createNotifier } from '../../src/events/notifier.ts'
import { AT_WORK, ENDED, type Input, transition } from '../../src/jobs/machine.ts'
import type { Job, JobService } from '../../src/jobs/port.ts'
import { project } from '../../src/jobs/project.ts'
import { inOrder } from '../../src/jobs/queue.ts'
import { createJobService } from '../../src/jobs/service.ts'
import { createSweeper } from '../../src/jobs/sweeper.ts'
import type { JobUpdate, Store } from '../../src/store/port.ts'
import { openSqliteStore } from '../../src/store/sqlite.ts'
import { newJob } from './jobs.ts'

const NAMES = ['a', 'b', 'c']
const AT = '2026-02-03T04:05:06.000Z'
const MOVES = readFileSync(new URL('../../../../docs/states.md', import.meta.url), 'utf8').split('## Moves')[1] ?? ''
const ALLOWED = new Set([...MOVES.matchAll(/^\| (\w+) \| \w+ \| (\w+) \|/gm)].map(([, from, to]) => `${from} ${to}`))

const checkpoint = (step: number): Frame => ({
  type: 'checkpoint',
  step,
  path: `/c/${step}`,
  loss: 1,
  validation_loss: null,
  best: false,
})
const WORK: (Input | Frame)[] = [
  { type: 'prepared' },
  { type: 'completed' },
  { type: 'yielded', reason: 'The server was shut down' },
  { type: 'crashed', reason: 'boom' },
  { type: 'crashed', reason: 'no memory', outOfMemory: true },
  { type: 'refused', reason: 'bad model' },
  { type: 'blocked', reason: 'disk full' },
  checkpoint(1),
  checkpoint(2),
  { type: 'rollback', step: 1, learning_rate_scale: 0.5, message: 'back' },
]
const name = fc.constantFrom(...NAMES)
const order = fc.oneof(
  fc.record({
    by: fc.constant('user' as const),
    name,
    what: fc.constantFrom('start', 'overwrite', 'stop', 'pause', 'resume', 'remove', 'prioritize' as const),
    priority: fc.integer({ min: -1, max: 1 }),
  }),
  fc.record({ by: fc.constant('runner' as const), what: fc.constantFrom('claim', 'claim', 'unblock', 'restart') }),
  fc.record({
    by: fc.constant('worker' as const),
    name,
    what: fc.constantFrom(...WORK),
    isStale: fc.constantFrom(false, false, true),
  }),
)
type Order = typeof order extends fc.Arbitrary<infer T> ? T : never
type UserOrder = Extract<Order, { by: 'user' }>['what']

const isFrame = (what: Input | Frame): what is Frame => ['checkpoint', 'rollback'].includes(what.type)

/** As the runner writes it. */
function moved(job: Job, what: Input | Frame): JobUpdate | null {
  const result = isFrame(what) ? project(job, what, AT, () => true) : transition(job, what, AT)
  return result && 'conflict' in result ? null : result
}

class Actors {
  constructor(
    readonly store: Store,
    readonly jobs: JobService,
    readonly home: string,
  ) {}

  async obey(order: Order): Promise<void> {
    if (order.by === 'user') return await this.user(order.what, order.name, order.priority)
    if (order.by === 'worker') return await this.work(order.name, order.what, order.isStale)
    if (order.what === 'claim') return await this.claim()
    for (const job of await this.store.jobs(order.what === 'restart' ? AT_WORK : ['paused']))
      await this.store.update(job.id, job.attempt, (now) =>
        moved(now, order.what === 'restart' ? { type: 'crashed', reason: 'restarted' } : { type: 'unblocked' }),
      )
  }

  async user(what: UserOrder, name: string, priority: number): Promise<void> {
    const before = await this.store.job(name)
    const wanted = newJob(name, join(this.home, 'outputs', name), what === 'overwrite')
    const orders: Record<typeof what, () => Promise<Job>> = {
      start: () => this.jobs.submit(wanted),
      overwrite: () => this.jobs.submit(wanted),
      stop: () => this.jobs.stop(name),
      pause: () => this.jobs.pause(name),
      resume: () => this.jobs.resume(name),
      remove: async () => (await this.jobs.remove(name)).job,
      prioritize: () => this.jobs.prioritize(name, priority),
    }
    const result = await orders[what]().catch((error: unknown) => error)
    if (result instanceof Error) {
      expect(result).toBeInstanceOf(ServiceError)
      const absent = before === null && what !== 'start' && what !== 'overwrite'
      expect((result as ServiceError).code).toBe(absent ? 'not_found' : 'conflict')
      expect(await this.store.job(name)).toEqual(before)
    } else if (what === 'remove') {
      expect(ENDED).toContain(before?.state)
      expect(await this.store.job(name)).toBeNull()
      expect(await this.store.eventsAfter((result as Job).id, 0, 9)).toEqual([])
      expect(await this.store.removals()).toEqual([])
    } else expect(await this.store.job(name)).toEqual(result)
  }

  async claim(): Promise<void> {
    const [first] = inOrder(await this.store.jobs())
    const taken = await this.store.claim((job) => moved(job, { type: 'claim' }) as JobUpdate)
    expect(taken?.id).toBe(first?.id)
    if (first) expect(taken).toMatchObject({ state: 'preparing', attempt: first.attempt + 1 })
  }

  /** A stale one has the attempt before, as one that was stopped past its lease. */
  async work(name: string, what: Input | Frame, isStale: boolean): Promise<void> {
    const before = await this.store.job(name)
    if (!before) return
    const written = await this.store.update(before.id, before.attempt - Number(isStale), (job) => moved(job, what))
    if (!isStale) return
    expect(written).toBeNull()
    expect(await this.store.job(name)).toEqual(before)
  }
}

async function check(store: Store): Promise<void> {
  const jobs = await store.jobs()
  expect(new Set(jobs.map(({ name }) => name)).size).toBe(jobs.length)
  for (const job of jobs) {
    const history = await store.eventsAfter(job.id, 0, 1000)
    expect(history.map(({ id }) => id)).toEqual(history.map((_, index) => index + 1))
    expect(history).toHaveLength(job.lastEventId)
    expect(history.at(-1)?.type === 'end').toBe(ENDED.includes(job.state))
    expect(job.completedAt !== null).toBe(ENDED.includes(job.state))
    const states = history.flatMap(({ type, data }) => (type === 'state' ? [data.state] : []))
    expect(states.at(-1)).toBe(job.state)
    for (const [index, state] of states.entries())
      if (index > 0 && states[index - 1] !== state) expect(ALLOWED).toContain(`${states[index - 1]} ${state}`)
  }
}

/** What user, runner and workers would do next. */
async function finish(actors: Actors): Promise<void> {
  const { store, jobs } = actors
  for (let round = 0; round < 20; round++)
    for (const job of await store.jobs()) {
      if (job.state === 'paused') await jobs.resume(job.name)
      else if (job.state === 'queued') await actors.claim()
      else if (job.state === 'preparing')
        await store.update(job.id, job.attempt, (now) => moved(now, { type: 'prepared' }))
      else if (AT_WORK.includes(job.state))
        await store.update(job.id, job.attempt, (now) => moved(now, { type: 'completed' }))
    }
  for (const { state } of await store.jobs()) expect(ENDED).toContain(state)
}

it('keep every job whole', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(order, { minLength: 10, maxLength: 50 }), async (orders) => {
      const home = mkdtempSync(join(tmpdir(), 'orders-'))
      const store = await openSqliteStore(join(home, 'training.db'))
      try {
        const sweeper = createSweeper({ store, home, log: pino({ level: 'silent' }) })
        const jobs = createJobService({ store, sweeper, notifier: createNotifier(), maxConcurrentJobs: 2 })
        const actors = new Actors(store, jobs, home)
        for (const name of NAMES) await actors.user('start', name, 0)
        for (const order of orders) {
          await actors.obey(order)
          await check(store)
        }
        await finish(actors)
        await check(store)
      } finally {
        await store.close()
        rmSync(home, { recursive: true, force: true })
      }
    }),
    { numRuns: 25 },
  )
})

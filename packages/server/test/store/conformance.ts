/** What every driver of the store must do; run it with a way to open a new, empty one. */
import { type Scope, ServiceError } from '@mlx-training/contract'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Store, StoreOptions } from '../../src/store/port.ts'
import { newJob } from '../jobs/jobs.ts'
import { datasetConformance } from './datasets.ts'
import { evaluationConformance } from './evaluations.ts'

const queued = { type: 'state', data: { state: 'queued' } } as const
const log = (text: string) => ({ type: 'log', data: { lines: [text] } }) as const

export function storeConformance(driver: string, open: (options?: StoreOptions) => Promise<Store>): void {
  describe(`store on ${driver}`, () => {
    let store: Store
    beforeEach(async () => {
      store = await open()
    })
    afterEach(() => store.close())

    const conflict = async (work: Promise<unknown>) => {
      const error = await work.then(
        () => expect.fail('no conflict'),
        (thrown: unknown) => thrown,
      )
      expect(error).toBeInstanceOf(ServiceError)
      expect((error as ServiceError).code).toBe('conflict')
      return (error as ServiceError).message
    }
    const take = () =>
      store.claim((job) => ({ change: { state: 'preparing', attempt: job.attempt + 1 }, events: [log('taken')] }))
    const end = (id: string) =>
      store.update(id, null, () => ({
        change: { state: 'completed', completedAt: '2026-01-01T00:00:00.000Z' },
        events: [{ type: 'end', data: {} }],
      }))

    datasetConformance(() => store)
    evaluationConformance(() => store)

    it('keeps a job as it was given', async () => {
      const given = newJob('a')
      const inserted = await store.insertJob(given, [queued])
      expect(inserted).toMatchObject({
        ...given,
        state: 'queued',
        intent: 'run',
        attempt: 0,
        fruitlessAttempts: 0,
        reason: null,
        startedAt: null,
        completedAt: null,
        lastEventId: 1,
      })
      expect(inserted.id).toMatch(/^job_\w+$/)
      expect(await store.job('a')).toEqual(inserted)
      expect(await store.jobById(inserted.id)).toEqual(inserted)
      expect(await store.job('b')).toBeNull()
      expect(await store.jobById('b')).toBeNull()
    })

    it('lists newest first, by state when asked', async () => {
      for (const name of ['a', 'b', 'c']) await store.insertJob(newJob(name), [])
      await take()
      expect((await store.jobs()).map((job) => job.name)).toEqual(['c', 'b', 'a'])
      expect((await store.jobs(['queued'])).map((job) => job.name)).toEqual(['c', 'b'])
      expect((await store.jobs(['preparing', 'queued'])).map((job) => job.name)).toEqual(['c', 'b', 'a'])
      expect(await store.jobs([])).toEqual([])
    })

    it('passes over jobs that are to be left alone', async () => {
      const [a, b] = [await store.insertJob(newJob('a'), []), await store.insertJob(newJob('b'), [])]
      const take = (...except: string[]) =>
        store.claim((job) => ({ change: { state: 'preparing', attempt: job.attempt + 1 }, events: [] }), except)
      expect(await take(a.id, b.id)).toBeNull()
      expect((await take(a.id))?.name).toBe('b')
      expect((await take(b.id))?.name).toBe('a')
    })

    it('refuses a name that is taken, and says what may be done', async () => {
      const { id } = await store.insertJob(newJob('a'), [])
      expect(await conflict(store.insertJob(newJob('a', '/elsewhere'), []))).toContain('"a" is queued: stop it first')
      expect(await conflict(store.insertJob(newJob('a', '/elsewhere'), [], { replace: 'a' }))).toContain('is queued')
      await end(id)
      expect(await conflict(store.insertJob(newJob('a'), []))).toContain('"overwrite": true')
      expect(await store.jobs()).toHaveLength(1)
    })

    it('replaces an ended job and its events', async () => {
      const first = await store.insertJob(newJob('a'), [queued])
      await end(first.id)
      const second = await store.insertJob(newJob('a'), [queued], { replace: 'a' })
      expect(second.id).not.toBe(first.id)
      expect(await store.jobById(first.id)).toBeNull()
      expect(await store.eventsAfter(first.id, 0, 10)).toEqual([])
      expect(await store.eventsAfter(second.id, 0, 10)).toHaveLength(1)
      await store.insertJob(newJob('b'), [], { replace: 'b' })
    })

    it('removes a job and its events, and says whose files are left until they are gone', async () => {
      const a = await store.insertJob(newJob('a'), [queued])
      const refusal = store.removeJob('a', ({ state }) => {
        throw new ServiceError('conflict', state)
      })
      expect(await conflict(refusal)).toBe('queued')
      expect(await store.jobById(a.id)).toEqual(a)
      expect(await store.removals()).toEqual([])

      expect(await store.removeJob('a', () => {})).toEqual(a)
      expect(await store.removeJob('a', () => {})).toBeNull()
      expect(await store.jobById(a.id)).toBeNull()
      expect(await store.eventsAfter(a.id, 0, 10)).toEqual([])
      const left = { jobId: a.id, name: 'a', outputDir: '/outputs/a' }
      expect(await store.removals()).toEqual([left])

      const again = await store.insertJob(newJob('a'), [])
      await end(again.id)
      await store.insertJob(newJob('a', '/elsewhere'), [], { replace: 'a' })
      expect(await store.removals()).toEqual([left, { ...left, jobId: again.id }])
      await store.removed(a.id)
      expect(await store.removals()).toEqual([{ ...left, jobId: again.id }])
    })

    describe('answers for the same request again', () => {
      const once = { principal: 'p', key: 'k', fingerprint: 'f' }
      const kept = (name: string, change = {}) =>
        store.insertJob(newJob(name), [queued], {
          keep: (job, ahead) => ({ ...once, ...change, answer: { id: job.id, ahead } }),
        })

      it('are kept with the job, by who asked and by key', async () => {
        expect(await store.answer('p', 'k')).toBeNull()
        await store.insertJob(newJob('before'), [])
        const { id } = await kept('a')
        expect(await store.answer('p', 'k')).toEqual({ fingerprint: 'f', answer: { id, ahead: 1 } })
        expect(await store.answer('q', 'k')).toBeNull()
        expect(await store.answer('p', 'l')).toBeNull()
        await kept('b', { principal: 'q' })
        expect(await store.answer('p', 'k')).toEqual({ fingerprint: 'f', answer: { id, ahead: 1 } })
      })

      it('and the job come together or not at all', async () => {
        await kept('a')
        expect(await conflict(kept('b'))).toContain('Idempotency-Key')
        expect(await store.job('b')).toBeNull()
        expect(await conflict(kept('a', { key: 'other' }))).toContain('"a"')
        expect(await store.answer('p', 'other')).toBeNull()
        const broken = store.insertJob(newJob('c'), [], {
          keep: () => {
            throw new Error('no answer')
          },
        })
        await expect(broken).rejects.toThrow('no answer')
        expect(await store.job('c')).toBeNull()
      })

      it('outlive their job, and not a day', async () => {
        const realNow = Date.now
        const { id } = await kept('a')
        await store.removeJob('a', () => {})
        expect(await store.answer('p', 'k')).toMatchObject({ answer: { id } })
        try {
          Date.now = () => realNow() + 24 * 3600_000 + 1
          expect(await store.answer('p', 'k')).toBeNull()
          await kept('a')
        } finally {
          Date.now = realNow
        }
      })
    })

    it('tells a new job how many come before it, by priority and then by age', async () => {
      const ahead = async (name: string, priority: number) => {
        const job = newJob(name)
        let told = -1
        const inserted = await store.insertJob({ ...job, request: { ...job.request, priority } }, [], {
          keep: (_, before) => {
            told = before
            return null
          },
        })
        expect(inserted.priority).toBe(priority)
        return told
      }
      expect(await ahead('a', 0)).toBe(0)
      expect(await ahead('b', 0)).toBe(1)
      expect(await ahead('c', 5)).toBe(0)
      expect(await ahead('d', 1)).toBe(1)
      expect(await ahead('e', -3)).toBe(4)
      expect((await take())?.name).toBe('c')
      expect(await ahead('f', 1)).toBe(1)
    })

    it('lets only one unended job write to a folder', async () => {
      const { id } = await store.insertJob(newJob('a', '/out'), [])
      expect(await conflict(store.insertJob(newJob('b', '/out'), []))).toContain('"a" (queued) writes to /out')
      await end(id)
      await store.insertJob(newJob('b', '/out'), [])
      expect(
        await conflict(store.update(id, null, () => ({ change: { state: 'queued', completedAt: null }, events: [] }))),
      ).toContain('"b" (queued) writes to /out')
      expect((await store.jobById(id))?.state).toBe('completed')
    })

    it('numbers events 1, 2, 3 … per job, beside their projection', async () => {
      const a = await store.insertJob(newJob('a'), [queued])
      const b = await store.insertJob(newJob('b'), [queued, log('x')])
      await store.update(a.id, null, () => ({ change: { reason: 'r' }, events: [log('1'), log('2')] }))
      await store.update(b.id, null, () => ({ change: {}, events: [log('3')] }))
      const updated = await store.update(a.id, null, () => ({ change: { reason: null }, events: [log('4')] }))
      expect(updated).toMatchObject({ reason: null, lastEventId: 4 })
      const events = await store.eventsAfter(a.id, 0, 100)
      expect(events.map((event) => event.id)).toEqual([1, 2, 3, 4])
      expect(events[1]).toMatchObject({ job_id: a.id, type: 'log', data: { lines: ['1'] } })
      expect(Date.parse(events[1]?.at ?? '')).not.toBeNaN()
      expect((await store.eventsAfter(a.id, 2, 1)).map((event) => event.id)).toEqual([3])
      const logs = await store.eventsAfter(a.id, 0, 100, ['log'])
      expect(logs).toEqual(events.filter(({ type }) => type === 'log'))
      expect(await store.eventsAfter(a.id, 0, 100, [])).toEqual([])
      expect(await store.eventsBefore(a.id, 100, 100)).toEqual(events.toReversed())
      expect((await store.eventsBefore(a.id, 3, 1)).map((event) => event.id)).toEqual([2])
      expect((await store.eventsAfter(b.id, 0, 100)).map((event) => event.id)).toEqual([1, 2, 3])
      expect((await store.jobById(b.id))?.lastEventId).toBe(3)
    })

    it('changes only what is named, whatever the field', async () => {
      const job = await store.insertJob(newJob('a'), [])
      const change = {
        state: 'running',
        intent: 'pause',
        attempt: 3,
        fruitlessAttempts: 2,
        priority: 9,
        request: { ...job.request, epochs: 7 },
        plan: { ...job.plan, outputDir: '/other' },
        progress: { ...job.progress, stage: 'tokenizing', loss: 1.5 },
        reason: 'because',
        startedAt: '2026-01-01T00:00:00.000Z',
        completedAt: '2026-01-02T00:00:00.000Z',
      } as const
      for (const [field, value] of Object.entries(change)) {
        const before = await store.jobById(job.id)
        await store.update(job.id, null, () => ({ change: { [field]: value }, events: [] }))
        expect(await store.jobById(job.id)).toEqual({ ...before, [field]: value })
      }
    })

    it('writes nothing for a stale attempt, a missing job, no decision or a decision that throws', async () => {
      const job = await store.insertJob(newJob('a'), [])
      await take()
      const change = { change: { reason: 'stale' }, events: [log('stale')] }
      expect(await store.update(job.id, 0, () => change)).toBeNull()
      expect(await store.update('job_none', null, () => change)).toBeNull()
      expect(await store.update(job.id, 1, () => null)).toMatchObject({ attempt: 1, reason: null })
      await expect(
        store.update(job.id, 1, () => {
          throw new ServiceError('conflict', 'no')
        }),
      ).rejects.toThrow('no')
      expect(await store.jobById(job.id)).toMatchObject({ reason: null, lastEventId: 1 })
      expect(await store.update(job.id, 1, () => change)).toMatchObject({ reason: 'stale' })
    })

    it('hands out each queued job once, by priority and then by age', async () => {
      for (const name of ['old', 'new', 'urgent']) await store.insertJob(newJob(name), [])
      const urgent = await store.job('urgent')
      await store.update(urgent?.id ?? '', null, () => ({ change: { priority: 1 }, events: [] }))
      const taken = await Promise.all([take(), take(), take(), take()])
      expect(taken.map((job) => job?.name)).toEqual(['urgent', 'old', 'new', undefined])
      expect(taken[0]).toMatchObject({ state: 'preparing', attempt: 1, lastEventId: 1 })
      expect(await store.eventsAfter(urgent?.id ?? '', 0, 9)).toHaveLength(1)
    })

    it('applies updates at the same time one after the other', async () => {
      const job = await store.insertJob(newJob('a'), [])
      await Promise.all(
        Array.from({ length: 50 }, () =>
          store.update(job.id, null, ({ attempt }) => ({ change: { attempt: attempt + 1 }, events: [log('x')] })),
        ),
      )
      expect(await store.jobById(job.id)).toMatchObject({ attempt: 50, lastEventId: 50 })
      expect((await store.eventsAfter(job.id, 0, 100)).map((event) => event.id)).toEqual(
        Array.from({ length: 50 }, (_, index) => index + 1),
      )
    })

    it('keeps keys, notes their use, and revokes them once', async () => {
      const key = {
        id: 'k1',
        name: 'ci',
        hash: 'ab'.repeat(32),
        scopes: ['read', 'train'] as Scope[],
        createdAt: '2026-01-01T00:00:00.000Z',
        lastUsedAt: null,
        expiresAt: null,
        revokedAt: null,
      }
      const other = { ...key, id: 'k0', createdAt: '2026-01-02T00:00:00.000Z' }
      await store.insertKey(other)
      await store.insertKey(key)
      expect(await store.key('k1')).toEqual(key)
      expect(await store.key('k2')).toBeNull()
      expect(await store.keys()).toEqual([key, other])
      const lastUsedAt = '2026-01-03T00:00:00.000Z'
      await store.keyUsed('k1', lastUsedAt)
      const revoked = { ...key, lastUsedAt, revokedAt: '2026-02-01T00:00:00.000Z' }
      expect(await store.revokeKey('k1', revoked.revokedAt)).toEqual(revoked)
      expect(await store.revokeKey('k1', '2026-03-01T00:00:00.000Z')).toBeNull()
      expect(await store.revokeKey('k2', revoked.revokedAt)).toBeNull()
      expect(await store.key('k1')).toEqual(revoked)
      expect(await store.keys()).toEqual([other])
    })

    it('counts jobs by state', async () => {
      expect(await store.countStates()).toEqual({})
      for (const name of ['a', 'b', 'c']) await store.insertJob(newJob(name), [])
      await take()
      expect(await store.countStates()).toEqual({ queued: 2, preparing: 1 })
    })

    it('keeps what has to be sent because of a job’s end, until it is removed', async () => {
      await store.close()
      store = await open({
        onEnd: (job) => ['x', 'y'].map((url) => ({ id: job.name, url, body: `${job.state} ${job.lastEventId}` })),
      })
      const { outbox } = store
      const a = await store.insertJob(newJob('a'), [queued])
      await take()
      expect(await outbox.size()).toBe(0)
      await end(a.id)
      expect(await outbox.size()).toBe(2)
      const [one] = await outbox.due('x', '9999', 9)
      expect(one).toMatchObject({ id: 'a', url: 'x', body: 'completed 3', attempts: 0 })
      if (!one) return
      await outbox.postpone(one, 1, '2999-01-01T00:00:00.000Z')
      expect(await outbox.due('x', '2998', 9)).toEqual([])
      expect(await outbox.nextDue('x', '2998')).toBe('2999-01-01T00:00:00.000Z')
      expect(await outbox.nextDue('x', '2999-01-01T00:00:00.000Z')).toBeNull()
      expect(await outbox.due('x', '2999-02', 9)).toMatchObject([{ attempts: 1 }])
      const b = await store.insertJob(newJob('b'), [])
      await end(b.id)
      expect((await outbox.due('x', '9999', 9)).map(({ id }) => id)).toEqual(['b', 'a'])
      expect(await outbox.due('x', '9999', 1)).toHaveLength(1)
      await outbox.remove(one)
      expect(await outbox.size()).toBe(3)
      expect(await outbox.keepOnly(['x'])).toBe(2)
      expect(await outbox.keepOnly([])).toBe(1)
    })

    it('answers a check', async () => {
      await expect(store.check()).resolves.toBeUndefined()
    })
  })
}

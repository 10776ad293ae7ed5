import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JobEvent } from '@mlx-training/contract'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createEventLog } from '../../src/events/log.ts'
import { createNotifier, type Notifier } from '../../src/events/notifier.ts'
import type { EventLog } from '../../src/events/port.ts'
import type { Store } from '../../src/store/port.ts'
import { openSqliteStore } from '../../src/store/sqlite.ts'
import { newJob } from '../jobs/jobs.ts'

let home: string
let store: Store
let notifier: Notifier
let log: EventLog
let id: string
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'events-'))
  store = await openSqliteStore(join(home, 'server.db'))
  notifier = createNotifier()
  log = createEventLog(store, notifier)
  id = (await store.insertJob(newJob('a'), [])).id
})
afterEach(async () => {
  await store.close()
  rmSync(home, { recursive: true, force: true })
})

async function append(count: number, end = false): Promise<void> {
  const events = Array.from({ length: count }, (_, n) => ({ type: 'log', data: { n } }) as const)
  await store.update(id, null, () => ({
    change: { completedAt: end ? '2026-01-01T00:00:00.000Z' : null },
    events: end ? [...events, { type: 'end', data: {} }] : events,
  }))
  notifier.publish('events', id)
}
const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => first + index)

async function ids(events: AsyncIterable<readonly JobEvent[]>): Promise<number[]> {
  const seen: number[] = []
  for await (const batch of events) seen.push(...batch.map((event) => event.id))
  return seen
}
const never = () => new AbortController().signal

describe('following a job', () => {
  it('replays, goes on live and ends with the job: no gap, no repeat, for readers of any pace', async () => {
    await append(1200)
    const fast = ids(log.follow(id, 0, never()))
    const late = ids(log.follow(id, 1100, never()))
    const slow = (async () => {
      const seen: number[] = []
      for await (const batch of log.follow(id, 0, never())) {
        expect(batch.length).toBeLessThanOrEqual(500)
        await new Promise((resolve) => setTimeout(resolve, 5))
        seen.push(...batch.map((event) => event.id))
      }
      return seen
    })()
    for (let round = 0; round < 100; round++) await append(1 + (round % 3))
    await append(0, true)
    const last = (await store.jobById(id))?.lastEventId ?? 0
    expect(last).toBe(1400)
    expect(await fast).toEqual(upTo(last))
    expect(await slow).toEqual(upTo(last))
    expect(await late).toEqual(upTo(last, 1101))
  })

  it('of an ended job ends after its last event, also for who has seen it', async () => {
    await append(3, true)
    expect(await ids(log.follow(id, 0, never()))).toEqual([1, 2, 3, 4])
    expect(await ids(log.follow(id, 2, never()))).toEqual([3, 4])
    expect(await ids(log.follow(id, 4, never()))).toEqual([])
    expect(await ids(log.follow(id, 99, never()))).toEqual([])
    expect(await ids(log.follow('job_none', 0, never()))).toEqual([])
  })

  it('of a resumed job goes on beyond the earlier end', async () => {
    await append(1, true)
    await append(2)
    const all = ids(log.follow(id, 0, never()))
    const after = ids(log.follow(id, 2, never()))
    await append(0, true)
    expect(await all).toEqual([1, 2, 3, 4, 5])
    expect(await after).toEqual([3, 4, 5])
  })

  it('ends when its reader leaves, and forgets it', async () => {
    await append(2)
    const abort = new AbortController()
    const seen = ids(log.follow(id, 0, abort.signal))
    const leaving = log.follow(id, 0, never())[Symbol.asyncIterator]()
    expect((await leaving.next()).value).toHaveLength(2)
    await leaving.return?.()
    setTimeout(() => abort.abort(), 20)
    expect(await seen).toEqual([1, 2])
    expect(await ids(log.follow(id, 0, AbortSignal.abort()))).toEqual([])
  })

  it('reads single pages, too', async () => {
    await append(5)
    expect((await log.after(id, 1, 2)).map((event) => event.id)).toEqual([2, 3])
  })
})

import type { JobSummary, JobsChange } from '@mlx-training/contract'
import { JobsChange as JobsChangeSchema } from '@mlx-training/contract'
import { Value } from 'typebox/value'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ListHistory } from '../../src/jobs/list-history.ts'
import { newJob } from '../jobs/jobs.ts'
import { ADMIN, createService, type Service } from './service.ts'

let service: Service
let url: string

beforeEach(async () => {
  service = await createService({ lookTimes: { gapMs: 0, idleMs: 3_600_000 } })
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
})
afterEach(() => service.close())

const submit = (name: string) => service.jobs.submit(newJob(name, `${service.folder}/outputs/${name}`))
/** Nothing moves of one that has ended. */
async function ended(...names: string[]): Promise<void> {
  for (const name of names) {
    await submit(name)
    await service.jobs.stop(name)
  }
}

interface Reader {
  response: Response
  next(): Promise<JobsChange>
  leave(): void
}

async function follow(lastEventId?: string, key = ADMIN): Promise<Reader> {
  const left = new AbortController()
  const response = await fetch(`${url}/train/changes`, {
    headers: { 'x-api-key': key, ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) },
    signal: left.signal,
  })
  const reading = changesOf(response)
  return {
    response,
    async next() {
      const { value } = await reading.next()
      if (!value) throw new Error('the stream has ended')
      return value
    },
    leave: () => left.abort(),
  }
}

async function* changesOf(response: Response): AsyncGenerator<JobsChange, undefined> {
  let text = ''
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
      const match = /^id: (.+)\nevent: (\w+)\ndata: (.+)$/.exec(text.slice(0, at))
      text = text.slice(at + 2)
      if (!match) continue
      const change = JSON.parse(match[3] ?? '') as JobsChange
      expect([change.id, change.type]).toEqual([match[1], match[2]])
      expect([...Value.Errors(JobsChangeSchema, change)]).toEqual([])
      yield change
    }
  }
}

/** What it tells, without the id. */
const told = (change: JobsChange) =>
  change.type === 'jobs'
    ? change.training_jobs.map((job) => job.experiment_name)
    : change.type === 'job'
      ? `${change.job.experiment_name} ${change.job.status}`
      : `${change.experiment_name} removed`

describe('GET /train/changes', () => {
  test('the list first, as GET /train answers it; then what changes, and what is removed', async () => {
    await ended('a', 'b')
    const reader = await follow()
    expect(reader.response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    const { body } = await service.call('GET', '/train')
    expect(await reader.next()).toEqual({ id: expect.any(String), type: 'jobs', ...body })
    await service.jobs.resume('a')
    expect(told(await reader.next())).toBe('a queued')
    await service.jobs.stop('a')
    expect(told(await reader.next())).toBe('a stopped')
    await service.jobs.remove('b')
    expect(told(await reader.next())).toBe('b removed')
  })

  test('Last-Event-ID: only what has changed since, each as it is now, while nobody followed too', async () => {
    await ended('a', 'b', 'c')
    const first = await follow()
    const { id } = await first.next()
    first.leave()
    await vi.waitFor(() => expect(service.changes.watching).toBe(false))
    await service.jobs.remove('b')
    await ended('new', 'newer')
    const second = await follow(id)
    const changes = [await second.next(), await second.next(), await second.next()]
    expect(changes.map(told)).toEqual(['b removed', 'new stopped', 'newer stopped'])
    second.leave()
    // From the middle of these.
    const third = await follow(changes[1]?.id)
    expect(await third.next()).toEqual(changes[2])
  })

  test.each(['', 'x', '1', 'aaaaaaaaaaaa.1', '../..'])(
    'the whole list after "%s", which is no id of this start',
    async (id) => {
      await ended('a')
      expect(told(await (await follow(id)).next())).toEqual(['a'])
    },
  )

  test('the whole list after an id that is still to come', async () => {
    await ended('a')
    const { id } = await (await follow()).next()
    expect(told(await (await follow(`${id}999`)).next())).toEqual(['a'])
  })

  test('one watch for all followers, none without', async () => {
    let subscribed = 0
    const { subscribe } = service.notifier
    service.notifier.subscribe = (...given) => {
      subscribed++
      return subscribe(...given)
    }
    expect(service.changes.watching).toBe(false)
    const [one, two] = [await follow(), await follow()]
    await one.next()
    await two.next()
    expect(service.changes.watching).toBe(true)
    expect(subscribed).toBe(1)
    one.leave()
    await ended('a')
    expect(told(await two.next())).toMatch(/^a /)
    two.leave()
    await vi.waitFor(() => expect(service.changes.watching).toBe(false))
  })

  test('a key that is revoked ends its stream', async () => {
    const key = await service.key(['read'])
    const reader = await follow(undefined, key)
    await reader.next()
    const id = /^mt_([^_]+)_/.exec(key)?.[1]
    expect((await service.call('DELETE', `/keys/${id}`)).status).toBe(200)
    await expect(reader.next()).rejects.toThrow()
    await vi.waitFor(() => expect(service.changes.watching).toBe(false))
  })

  test('a list that cannot be read is an error with its status, and one that is followed is tried again', async () => {
    await ended('a')
    const { list } = service.jobs
    const reader = await follow()
    await reader.next()
    service.jobs.list = () => Promise.reject(new Error('no disk'))
    expect((await follow()).response.status).toBe(500)
    await service.jobs.remove('a')
    await vi.waitFor(() => expect(service.logged.join()).toContain('could not be read for its followers'))
    service.jobs.list = list
    await ended('b')
    expect(told(await reader.next())).toBe('a removed')
  })

  test('closing the server ends it', async () => {
    const reader = await follow()
    await reader.next()
    const closed = service.app.close()
    await expect(reader.next()).rejects.toThrow('the stream has ended')
    await closed
    expect(service.changes.watching).toBe(false)
  })

  test('an experiment may be called "changes"', async () => {
    await ended('changes')
    expect((await service.call('GET', '/train/changes/status')).body.status).toBe('stopped')
    expect((await service.call('DELETE', '/train/changes')).status).toBe(200)
    expect((await service.call('GET', '/train')).body.training_jobs).toEqual([])
  })
})

describe('the history of the list', () => {
  const job = (name: string, more: Partial<JobSummary> = {}) =>
    ({ experiment_name: name, job_id: `job_${name}`, estimated_start: null, ...more }) as JobSummary

  test('remembers so many removed jobs, and begins anew for who was away for more', () => {
    const history = new ListHistory(2)
    history.take(['d', 'c', 'b', 'a'].map((name) => job(name)))
    const place = history.count
    history.take([job('d'), job('c')])
    expect(history.since(place).map(({ type }) => type)).toEqual(['removed', 'removed'])
    history.take([job('d')])
    expect(history.since(place)).toMatchObject([{ type: 'jobs', training_jobs: [job('d')] }])
    expect(history.since(place + 1).map(({ type }) => type)).toEqual(['removed', 'removed'])
  })

  test('one that is back is not removed; readers at one place get one array', () => {
    const history = new ListHistory()
    history.take([job('a')])
    const place = history.count
    history.take([])
    expect(history.take([job('a', { job_id: 'job_other' })])).toBe(true)
    const changes = history.since(place)
    expect(changes).toMatchObject([{ type: 'job', job: { job_id: 'job_other' } }])
    expect(history.since(place)).toBe(changes)
    expect(history.take([job('a', { job_id: 'job_other' })])).toBe(false)
  })

  test('an estimated start that moves by a moment is no change', () => {
    const history = new ListHistory()
    history.take([job('a', { estimated_start: '2024-01-15T10:30:01.000Z' })])
    expect(history.take([job('a', { estimated_start: '2024-01-15T10:30:09.500Z' })])).toBe(false)
    expect(history.take([job('a', { estimated_start: '2024-01-15T10:31:01.000Z' })])).toBe(true)
  })
})

import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JobState } from '@mlx-training/contract'
import fc from 'fast-check'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createNotifier, type Notifier } from '../../src/events/notifier.ts'
import type { Job } from '../../src/jobs/port.ts'
import type { Store } from '../../src/store/port.ts'
import { openSqliteStore } from '../../src/store/sqlite.ts'
import { createWebhooks, type WebhookDependencies, type Webhooks } from '../../src/webhooks/deliver.ts'
import { SCHEDULE, waitAfter } from '../../src/webhooks/retry.ts'
import { webhookSecret } from '../../src/webhooks/secret.ts'
import { until } from '../engine/fake.ts'
import { newJob } from '../jobs/jobs.ts'
import { openReceiver, type Receiver, SECRET } from './receiver.ts'

const FAST = { first: 5, longest: 20, attempts: 4 }

let folder: string
let receiver: Receiver
let store: Store
let notifier: Notifier
let webhooks: Webhooks
let logged: string[]
const open: (() => Promise<void>)[] = []

/** Opens the store of the folder with deliveries to `urls`; called again it stands for a restart. */
async function begin(urls: string[], options: Partial<WebhookDependencies> = {}): Promise<void> {
  notifier = createNotifier()
  const log = pino({}, { write: (line: string) => logged.push(line) })
  webhooks = createWebhooks({ urls, secret: SECRET, notifier, log, schedule: FAST, ...options })
  store = await openSqliteStore(join(folder, 'training.db'), { onEnd: webhooks.onEnd })
  await webhooks.start(store)
}
async function end(): Promise<void> {
  await webhooks.close()
  await store.close()
}
async function jobEnds(name: string, state: JobState = 'completed', change: Partial<Job> = {}): Promise<Job> {
  const { id } = await store.insertJob(newJob(name), [])
  const job = await store.update(id, null, () => ({
    change: { state, completedAt: '2026-01-01T00:00:00.000Z', ...change },
    events: [{ type: 'end', data: { state } }],
  }))
  notifier.publish('events', id)
  return job as Job
}
const receive = async (path: Parameters<typeof openReceiver>[0] = 0) => {
  const one = await openReceiver(path)
  open.push(() => one.close())
  return one
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'webhooks-'))
  logged = []
  receiver = await receive()
})
afterEach(async () => {
  for (const close of open.splice(0)) await close()
  rmSync(folder, { recursive: true, force: true })
})

describe('webhooks', () => {
  test('a job that ends is told to every receiver, signed, once, with one id', async () => {
    const other = await receive()
    await begin([`${receiver.url}/a?token=private`, `${other.url}/b`])
    const job = await jobEnds('a', 'completed', { reason: 'Early', startedAt: '2025-12-31T00:00:00.000Z' })
    await jobEnds('b', 'failed', { reason: 'No memory' })
    await jobEnds('c', 'stopped')
    await until(async () => (await store.outbox.size()) === 0)
    expect([receiver.refused, other.refused]).toEqual([[], []])
    const told = receiver.received.map(({ payload }) => [payload.type, payload.data.status, payload.data.model])
    expect(told.sort()).toEqual([
      ['training.job.failed', 'failed', null],
      ['training.job.stopped', 'stopped', null],
      ['training.job.succeeded', 'completed', 'fine-tuned/a'],
    ])
    const succeeded = receiver.received.find(({ payload }) => payload.data.job_id === job.id)
    expect(succeeded).toMatchObject({
      path: '/a?token=private',
      payload: {
        timestamp: '2026-01-01T00:00:00.000Z',
        data: { experiment_name: 'a', base_model: 'tiny', reason: 'Early', attempt: 0, loss: null, total_steps: 0 },
      },
    })
    expect(succeeded?.headers).toMatchObject({ 'content-type': 'application/json', 'webhook-id': expect.any(String) })
    expect(other.received.map(({ id }) => id).sort()).toEqual(receiver.received.map(({ id }) => id).sort())
    expect(new Set(receiver.received.map(({ id }) => id)).size).toBe(3)
    expect(logged.join('')).not.toMatch(/private|whsec/)
    await end()
  })

  test('the message is there exactly when the end is: a transaction that fails leaves neither', async () => {
    await begin([receiver.url])
    const { id } = await store.insertJob(newJob('a'), [])
    const ending = { change: { state: 'failed' }, events: [{ type: 'end', data: {} }] } as const
    await expect(
      store.update(id, null, () => ({ change: { attempt: 1n as never }, events: [{ type: 'end', data: { n: 1n } }] })),
    ).rejects.toThrow()
    expect(await store.outbox.size()).toBe(0)
    expect(await store.update(id, 7, () => ({ ...ending, events: [...ending.events] }))).toBeNull()
    expect(await store.outbox.size()).toBe(0)
    expect(await store.eventsAfter(id, 0, 9)).toEqual([])
    await end()
  })

  test.each([500, 302, 404, 204.5])('tries again after %s, with the same id and a new time', async (status) => {
    await begin([receiver.url])
    receiver.answer = (_, response) => {
      if (receiver.received.length > 2) return 200
      if (status === 204.5) return void response.destroy()
      return status
    }
    await jobEnds('a')
    await until(async () => (await store.outbox.size()) === 0)
    expect(receiver.received.length).toBe(3)
    expect(new Set(receiver.received.map(({ id }) => id)).size).toBe(1)
    await end()
  })

  test('a redirect is not followed', async () => {
    const other = await receive()
    await begin([receiver.url])
    receiver.answer = (_, response) => void response.writeHead(307, { location: other.url }).end()
    await jobEnds('a')
    await until(() => logged.some((line) => line.includes('given up')))
    expect(other.received).toEqual([])
    expect(receiver.received).toHaveLength(FAST.attempts)
    expect(logged.join('')).toContain('redirects are not followed')
    await end()
  })

  test('410 ends it at once', async () => {
    await begin([receiver.url])
    receiver.answer = () => 410
    await jobEnds('a')
    await until(async () => (await store.outbox.size()) === 0)
    expect(receiver.received).toHaveLength(1)
    await end()
  })

  test('a receiver that never answers is cut off, delays no other, and closing waits for neither', async () => {
    const silent = await receive()
    silent.answer = () => undefined
    await begin([silent.url, receiver.url], { timeout: 60_000 })
    for (let i = 0; i < 9; i++) await jobEnds(`j${i}`)
    await until(() => receiver.received.length === 9)
    await until(() => silent.received.length === 4)
    await end()
    await begin([silent.url, receiver.url], { timeout: 30 })
    await until(() => logged.some((line) => line.includes('no answer within 0.03 s')))
    await end()
  })

  test('what was not delivered is after a restart, with its id and body, though the job is gone', async () => {
    await begin([receiver.url])
    receiver.answer = () => 503
    const job = await jobEnds('a')
    await until(() => receiver.received.length > 0)
    await end()
    const port = Number(new URL(receiver.url).port)
    await receiver.close()
    const [first] = receiver.received
    const back = await receive(port)
    await begin([back.url])
    await store.insertJob(newJob('a'), [], { replace: 'a' })
    expect(await store.jobById(job.id)).toBeNull()
    await until(async () => (await store.outbox.size()) === 0)
    expect(back.received).toMatchObject([{ id: first?.id, payload: first?.payload }])
    await end()
  })

  test('receivers that are configured no more get nothing', async () => {
    receiver.answer = () => 503
    await begin([receiver.url], { schedule: { first: 60_000, longest: 60_000, attempts: 2 } })
    await jobEnds('a')
    await until(() => receiver.received.length === 1)
    await end()
    await begin([])
    expect(await store.outbox.size()).toBe(0)
    expect(logged.join('')).toContain('configured no more')
    await end()
  })
})

test('retries take most of a day, ever slower, and spread', () => {
  const wait = (attempt: number, random: number) => waitAfter(attempt, SCHEDULE, random) as number
  const waits = Array.from({ length: SCHEDULE.attempts - 1 }, (_, i) => wait(i + 1, 0.5))
  const hours = waits.reduce((sum, ms) => sum + ms, 0) / 3_600_000
  expect(hours).toBeGreaterThan(20)
  expect(hours).toBeLessThan(28)
  expect(waits).toEqual([...waits].sort((a, b) => a - b))
  expect(waitAfter(SCHEDULE.attempts, SCHEDULE, 0)).toBeNull()
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: SCHEDULE.attempts - 1 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (n, r) => {
        expect(wait(n, r) / wait(n, 0.5)).toBeGreaterThan(0.79)
        expect(wait(n, r) / wait(n, 0.5)).toBeLessThan(1.21)
      },
    ),
  )
})

test('the secret is made once, kept for the owner alone, and only where there are receivers', async () => {
  const home = join(folder, 'home')
  const ask = (urls: string[], signingKey: string | null = null) =>
    webhookSecret({ home, webhooks: { urls, signingKey } })
  expect(await ask([])).toBeNull()
  expect(await ask(['http://x'], SECRET)).toMatchObject({ secret: SECRET, file: null, fresh: false })
  const made = await ask(['http://x'])
  expect(made?.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
  expect(made?.fresh).toBe(true)
  const file = join(home, 'webhook.secret')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(readFileSync(file, 'utf8').trim()).toBe(made?.secret)
  expect(await ask(['http://x'])).toEqual({ ...made, fresh: false })
})

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, expect, test } from 'vitest'
import { createNotifier } from '../../src/events/notifier.ts'
import { measuredEngine, measuredStore } from '../../src/metrics/measured.ts'
import { createMetrics } from '../../src/metrics/metrics.ts'
import { openSqliteStore } from '../../src/store/sqlite.ts'
import { createWebhooks } from '../../src/webhooks/deliver.ts'
import { anyTrainCommand, fakeEngine } from '../engine/fake.ts'
import { newJob } from '../jobs/jobs.ts'
import { createService, type Service } from './service.ts'

const open: (() => unknown)[] = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})
const begin = async (options?: Parameters<typeof createService>[0]): Promise<Service> => {
  const service = await createService(options)
  open.push(() => service.close())
  return service
}

/** Name and labels → value. */
const read = (text: string) =>
  new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  )

test('requests are counted by pattern, never by path, and apps do not mix', async () => {
  const [one, other] = [await begin(), await begin()]
  for (let i = 0; i < 3; i++) await one.call('GET', `/train/secret-name-${i}/status`)
  await one.call('GET', '/train/x/status', undefined, {})
  await one.call('GET', `/no/such/${'path'.repeat(9)}`)
  await one.call('POST', '/datasets/validate', '{')
  const { status, body, headers } = await one.call('GET', '/metrics', undefined, {})
  expect(status).toBe(200)
  expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
  const metrics = read(body)
  const count = (labels: string) => metrics.get(`mlx_training_http_request_seconds_count{${labels}}`)
  expect(count('method="GET",route="/train/:name/status",status="404"')).toBe(3)
  expect(count('method="GET",route="/train/:name/status",status="401"')).toBe(1)
  expect(count('method="GET",route="none",status="404"')).toBe(1)
  expect(count('method="POST",route="/datasets/validate",status="400"')).toBe(1)
  expect(body).not.toMatch(/secret-name|no\/such/)
  expect((await other.call('GET', '/metrics')).body).not.toContain('/train/:name/status')
})

test('jobs by state are read when asked', async () => {
  const service = await begin()
  await service.jobs.submit(newJob('a', `${service.folder}/a`))
  await service.jobs.submit(newJob('b', `${service.folder}/b`))
  await service.jobs.stop('b')
  const metrics = read((await service.call('GET', '/metrics')).body)
  expect(metrics.get('mlx_training_jobs{state="queued"}')).toBe(1)
  expect(metrics.get('mlx_training_jobs{state="stopped"}')).toBe(1)
  expect(metrics.get('mlx_training_jobs{state="running"}')).toBe(0)
  expect(metrics.get('mlx_training_queue_oldest_seconds')).toBeGreaterThan(0)
  await service.jobs.stop('a')
  expect(read((await service.call('GET', '/metrics')).body).get('mlx_training_queue_oldest_seconds')).toBe(0)
})

test('streams are counted while they are open, and their length is no request time', async () => {
  const service = await begin()
  await service.jobs.submit(newJob('a', `${service.folder}/a`))
  const url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  const key = await service.key(['read'])
  const response = await fetch(`${url}/train/a/events`, { headers: { 'x-api-key': key } })
  const metrics = async () => read((await service.call('GET', '/metrics')).body)
  expect((await metrics()).get('mlx_training_event_streams')).toBe(1)
  await service.jobs.stop('a')
  await response.text()
  const after = await metrics()
  expect(after.get('mlx_training_event_streams')).toBe(0)
  expect(after.get('mlx_training_event_streams_opened_total')).toBe(1)
  expect([...after.keys()].filter((name) => name.includes('/train/:name/events'))).toEqual([])
})

test('/metrics asks for a key when all reads do, and for one that may read', async () => {
  const service = await begin({ env: { MLX_TRAINING_REQUIRE_AUTH: '1' } })
  expect((await service.call('GET', '/metrics', undefined, {})).status).toBe(401)
  const key = await service.key(['read'])
  expect((await service.call('GET', '/metrics', undefined, { 'x-api-key': key })).status).toBe(200)
})

test('training: steps, tokens, event lag and how processes end; queue wait, restarts, database and webhooks', async () => {
  const fake = fakeEngine({ train: 'hello(); command(); prepared(); step(1); step(2); error("disk_full", "full")' })
  open.push(() => fake.remove())
  const metrics = createMetrics({ ofProcess: true })
  const log = pino({ level: 'silent' })
  const { createEngine } = await import('../../src/engine/index.ts')
  const engine = measuredEngine(createEngine(fake.config, log), metrics)
  open.push(() => engine.close())
  await engine.train(anyTrainCommand, () => new Promise((resolve) => setTimeout(resolve, 5))).exited

  const folder = mkdtempSync(join(tmpdir(), 'metrics-'))
  open.push(() => rmSync(folder, { recursive: true }))
  const webhooks = createWebhooks({
    urls: ['http://127.0.0.1:1'],
    secret: `whsec_${Buffer.alloc(24).toString('base64')}`,
    notifier: createNotifier(),
    log,
    onAttempt: (result) => metrics.webhooks.inc({ result }),
  })
  const database = await openSqliteStore(join(folder, 'db'), {
    onEnd: webhooks.onEnd,
    onQuery: (operation, seconds) => metrics.database.observe({ operation }, seconds),
  })
  open.push(() => database.close())
  const store = measuredStore(database, metrics)
  metrics.watch(store)
  const { id } = await store.insertJob(newJob('a'), [])
  const claim = () => store.claim((job) => ({ change: { state: 'preparing', attempt: job.attempt + 1 }, events: [] }))
  await claim()
  await store.update(id, 1, () => ({ change: { state: 'queued' }, events: [] }))
  await claim()
  await store.update(id, 2, () => ({ change: { state: 'failed' }, events: [{ type: 'end', data: {} }] }))
  await webhooks.start(store)
  for (;;) if (read(await metrics.text()).has('mlx_training_webhook_attempts_total{result="failed"}')) break
  await webhooks.close()

  const told = read(await metrics.text())
  expect(told.get('mlx_training_tokens_processed_total')).toBe(40)
  expect(told.get('mlx_training_tokens_trained_total')).toBe(20)
  expect(told.get('mlx_training_step_seconds_count')).toBe(2)
  expect(told.get('mlx_training_step_seconds_sum')).toBeCloseTo(0.4)
  expect(told.get('mlx_training_engine_exits_total{kind="disk_full"}')).toBe(1)
  expect(told.get('mlx_training_event_lag_seconds_bucket{le="0.0025"}')).toBe(0)
  expect(told.get('mlx_training_event_lag_seconds_count')).toBeGreaterThanOrEqual(3)
  expect(told.get('mlx_training_queue_wait_seconds_count')).toBe(1)
  expect(told.get('mlx_training_job_restarts_total')).toBe(1)
  expect(told.get('mlx_training_webhooks_pending')).toBe(1)
  expect(told.get('mlx_training_database_seconds_count{operation="commit"}')).toBeGreaterThan(4)
  expect(told.get('process_resident_memory_bytes')).toBeGreaterThan(1e6)
})

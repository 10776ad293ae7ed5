import { afterEach, expect, test } from 'vitest'
import { createReadiness } from '../../src/http/readiness.ts'
import { contractErrors, createService, type Service } from './service.ts'

let service: Service
afterEach(() => service.close())

const ask = async (path: string) => await service.call('GET', path, undefined, {})

test('ready with database, engine and disk; /health says so beside what it always said', async () => {
  service = await createService({ engine: 'echo', env: { MLX_TRAINING_REQUIRE_AUTH: '1' } })
  await service.engine.ready()
  const checks = { database: 'ok', engine: 'ok', disk: 'ok' }
  const { status, body } = await ask('/ready')
  expect([status, body]).toEqual([200, { ready: true, checks }])
  expect(contractErrors('ready', body)).toEqual([])
  const health = (await ask('/health')).body
  expect(contractErrors('health', health)).toEqual([])
  expect(health).toMatchObject({ status: 'healthy', ready: true, checks })
})

test('not ready without an engine: 503 with what is missing', async () => {
  service = await createService()
  await service.engine.ready()
  const { status, body, headers } = await ask('/ready')
  expect(status).toBe(503)
  expect(body).toMatchObject({
    error_type: 'ServiceUnavailableError',
    detail: expect.stringContaining('engine: unavailable'),
  })
  expect(headers['retry-after']).toBe('5')
  expect((await ask('/health')).body).toMatchObject({ status: 'degraded', ready: false, checks: { database: 'ok' } })
})

test('not ready without a database, told within a second of asking, however often it is asked', async () => {
  service = await createService({ engine: 'echo' })
  await service.engine.ready()
  let asked = 0
  let broken = false
  const store = {
    check: async () => {
      asked++
      if (broken) throw new Error('disk I/O error')
    },
  }
  const readiness = createReadiness({ store, engine: service.engine, home: service.config.home })
  await Promise.all(Array.from({ length: 100 }, () => readiness()))
  expect(asked).toBe(1)
  broken = true
  await new Promise((resume) => setTimeout(resume, 600))
  expect((await readiness()).database).toBe('unavailable')
})

import { ROUTES, type Scope } from '@mlx-training/contract'
import fastify from 'fastify'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addGuards } from '../../src/http/guards.ts'
import { ADMIN, createService, type Service } from './service.ts'

let service: Service
let strict: Service
const keys: Record<string, string> = {}
beforeAll(async () => {
  service = await createService()
  strict = await createService({ env: { MLX_TRAINING_REQUIRE_AUTH: 'true' } })
  keys.read = await service.key(['read'])
  keys.train = await service.key(['train'])
  keys.generate = await service.key(['generate'])
  keys.admin = await service.key(['admin'])
  keys.scopeless = await service.key([])
  keys.expired = await service.key(['admin'], { expiresAt: '2020-01-01T00:00:00Z' })
  keys.revoked = await service.key(['admin'], { revokedAt: '2020-01-01T00:00:00Z' })
  keys.unknown = `mt_${'0'.repeat(12)}_${'0'.repeat(64)}`
  keys.wrongSecret = `${keys.admin.slice(0, -1)}${keys.admin.endsWith('0') ? '1' : '0'}`
  keys.nonsense = 'your-api-key'
})
afterAll(async () => {
  await service.close()
  await strict.close()
})

const MAY: Record<string, Scope[]> = {
  read: ['read'],
  train: ['read', 'train'],
  generate: ['read', 'generate'],
  admin: ['read', 'train', 'generate', 'admin'],
  scopeless: [],
}
const INVALID = ['expired', 'revoked', 'unknown', 'wrongSecret', 'nonsense']

describe.each(Object.entries(ROUTES))('%s', (name, { method, path, auth, scope, tag }) => {
  // A stream without an end is asked for its head alone.
  const asked = path === ROUTES.trainChanges.path ? 'HEAD' : method
  const ask = async (from: Service, headers: Record<string, string>) =>
    (await from.call(asked, path.replace(':name', 'nobody'), method === 'POST' ? {} : undefined, headers)).status
  // What these answer says that the guard let them pass: a body that is empty, an experiment or engine that isn't there.
  const passed = (status: number) =>
    expect([200, 404, tag === 'openai' ? 400 : 422, 503], `${name} ${status}`).toContain(status)

  test('without a key', async () => {
    const status = await ask(service, {})
    if (auth === 'required') expect(status).toBe(401)
    else passed(status)
    const strictStatus = await ask(strict, {})
    if (auth === 'none') passed(strictStatus)
    else expect(strictStatus).toBe(401)
  })

  test.each(Object.keys(MAY))('with a key of scope %s', async (key) => {
    const sent: Record<string, string>[] = [{ 'x-api-key': keys[key] ?? '' }, { authorization: `Bearer ${keys[key]}` }]
    for (const headers of sent) {
      const status = await ask(service, headers)
      if (auth === 'none' || MAY[key]?.includes(scope)) passed(status)
      else expect(status).toBe(403)
    }
  })

  test.each(INVALID)('with a key that is %s', async (key) => {
    const status = await ask(service, { 'x-api-key': keys[key] ?? '' })
    if (auth === 'none') passed(status)
    else expect(status).toBe(401)
  })

  test('with the configured admin key', async () => {
    passed(await ask(service, { 'x-api-key': ADMIN }))
    passed(await ask(service, { authorization: `bearer ${ADMIN}` }))
  })
})

test('what is wrong with a key is told to whoever holds it, and nothing to others', async () => {
  const detail = async (key = '') => (await service.call('GET', '/train', undefined, { 'x-api-key': key })).body.detail
  expect(await detail(keys.expired)).toMatch(/expired at 2020/)
  expect(await detail(keys.revoked)).toMatch(/revoked/)
  expect(await detail(keys.unknown)).toBe(await detail(keys.wrongSecret))
  const { body, headers } = await service.call('GET', '/train', undefined, {})
  expect(body.detail).toMatch(/X-API-Key.*admin\.key/)
  expect(headers['www-authenticate']).toMatch(/^Bearer/)
  const scope = await service.call('POST', '/train/start', {}, { 'x-api-key': keys.read ?? '' })
  expect(scope.body).toMatchObject({ error_type: 'PermissionDeniedError', detail: expect.stringContaining('"train"') })
  const basic = await service.call('GET', '/train', undefined, { authorization: 'Basic YTpi' })
  expect(basic.body).toMatchObject({ status_code: 401, detail: expect.stringContaining('Bearer') })
})

test('an empty key is none', async () => {
  expect((await service.call('GET', '/models', undefined, { 'x-api-key': ' ' })).status).toBe(200)
  expect((await service.call('GET', '/train', undefined, { 'x-api-key': '' })).body.detail).toMatch(/is needed/)
  for (const authorization of ['', 'Bearer', 'Bearer ']) {
    expect((await service.call('GET', '/models', undefined, { authorization })).status).toBe(200)
    expect((await service.call('GET', '/train', undefined, { authorization })).body.detail).toMatch(/is needed/)
  }
})

test("where others reach the server, its operator's provider keys are not spent without a key", async () => {
  const env = { HOST: '0.0.0.0', MLX_TRAINING_API_KEY: ADMIN }
  const open = await createService({ env })
  const messages = [{ role: 'user', content: 'Hi' }]
  const asked: [string, object][] = [
    ['/generate', { prompt: 'Hi', model: 'openai/x' }],
    ['/generate', { prompt: 'Hi', model: 'x', provider: 'together', stream: true }],
    ['/compare', { prompt: 'Hi', models: ['./tiny', 'anthropic/x'] }],
    ['/v1/chat/completions', { messages, model: 'anthropic/x' }],
    ['/v1/completions', { prompt: 'Hi', model: 'openai/x' }],
  ]
  const status = async (from: Service, [path, body]: [string, object], key?: string) =>
    (await from.call('POST', path, body, key === undefined ? {} : { 'x-api-key': key })).status
  for (const each of asked) {
    expect(await status(open, each), each[0]).toBe(401)
    expect(await status(open, each, ADMIN), each[0]).not.toBe(401)
    expect(await status(service, each), each[0]).not.toBe(401)
  }
  expect(await status(open, ['/generate', { prompt: 'Hi', model: './nobody' }])).not.toBe(401)
  await open.close()
})

test('guessing is slowed down, but not by a client that repeats one wrong key', async () => {
  const guarded = await createService()
  const status = async (key: string) => (await guarded.call('GET', '/train', undefined, { 'x-api-key': key })).status
  for (let i = 0; i < 50; i++) expect(await status('an outdated key')).toBe(401)
  expect(await status(ADMIN)).toBe(200)
  for (let i = 0; i < 19; i++) expect(await status(`guess ${i}`)).toBe(401)
  const { status: blocked, body, headers } = await guarded.call('GET', '/train', undefined, { 'x-api-key': ADMIN })
  expect(blocked).toBe(429)
  expect(body.error_type).toBe('RateLimitError')
  expect(Number(headers['retry-after'])).toBeGreaterThan(0)
  expect((await guarded.call('GET', '/health')).status).toBe(200)
  await guarded.close()
})

describe('hosts and origins', () => {
  const health = async (headers: Record<string, string>, from = service) =>
    (await from.call('GET', '/health', undefined, headers)).status

  test.each(['localhost', 'localhost:8200', '127.0.0.1:1', '[::1]:8200', 'LOCALHOST'])('%s is let in', async (host) => {
    expect(await health({ host })).toBe(200)
  })

  test.each(['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example:8200', '169.254.169.254'])(
    '"%s" is not',
    async (host) => {
      const { status, body } = await service.call('GET', '/health', undefined, { host })
      expect(status).toBe(403)
      expect(body.detail).toContain('MLX_TRAINING_ALLOWED_HOSTS')
    },
  )

  test('also on routes that are not there', async () => {
    expect((await service.call('GET', '/nothing', undefined, { host: 'evil.example' })).status).toBe(403)
  })

  test('MLX_TRAINING_ALLOWED_HOSTS and the host that is bound', async () => {
    const named = await createService({
      env: {
        HOST: 'gpu.example',
        MLX_TRAINING_API_KEY: 'k',
        MLX_TRAINING_ALLOWED_HOSTS: 'train.example, Other.Example',
      },
    })
    for (const host of ['gpu.example', 'train.example:443', 'other.example'])
      expect(await health({ host }, named)).toBe(200)
    expect(await health({ host: 'third.example' }, named)).toBe(403)
    await named.close()
  })

  test('a foreign origin is refused, our own is not', async () => {
    const host = 'localhost:8200'
    expect(await health({ host, origin: 'http://localhost:8200' })).toBe(200)
    for (const origin of ['http://evil.example', 'http://localhost:3000', 'null', 'file://', 'chrome-extension://abc'])
      expect(await health({ host, origin }), origin).toBe(403)
  })
})

test('a route that does not say who may call it can not be registered', async () => {
  const app = fastify()
  addGuards(app, service.config, async () => ({ id: 'x', name: 'x', scopes: [], expiresAt: null }))
  expect(() => app.get('/open', async () => 'secret')).toThrow('/open does not say who may call it')
})

test('no key, prompt or header is in the log', async () => {
  const watched = await createService()
  const key = await watched.key(['generate'])
  await watched.call(
    'POST',
    '/generate?api_key=in-the-query',
    { prompt: 'a very private prompt' },
    { 'x-api-key': key },
  )
  await watched.call('POST', '/train/start', { experiment_name: 'a private name!' })
  await watched.call('GET', '/train', undefined, { authorization: 'Bearer a-wrong-key' })
  const log = watched.logged.join('')
  expect(log).toContain('"path":"/generate"')
  for (const secret of [key, ADMIN, 'a-wrong-key', 'private', 'in-the-query']) expect(log).not.toContain(secret)
  await watched.close()
})

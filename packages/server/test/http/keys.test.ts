import { once } from 'node:events'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SCOPES } from '@mlx-training/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { hashKey } from '../../src/auth/keys.ts'
import { newJob } from '../jobs/jobs.ts'
import { ADMIN, contractErrors, createService, type Service } from './service.ts'

let service: Service
beforeAll(async () => {
  service = await createService()
})
afterAll(() => service.close())

const as = (key: string) => ({ 'x-api-key': key })
const make = async (body: object, key = ADMIN) => await service.call('POST', '/keys', body, as(key))
const listed = async () => (await service.call('GET', '/keys')).body.keys

test('a key is made, works, is told without its secret, and ends when it is revoked', async () => {
  const { status, body, headers } = await make({ name: 'nightly runs', scopes: ['train'] })
  expect(status, body.detail).toBe(200)
  expect(contractErrors('keysCreate', body)).toEqual([])
  expect(headers['cache-control']).toBe('no-store')
  const { key, ...told } = body
  expect(told).toMatchObject({ name: 'nightly runs', scopes: ['train'], expires_at: null, last_used_at: null })

  expect((await service.call('GET', '/train', undefined, as(key))).status).toBe(200)
  const answer = await service.call('GET', '/keys')
  expect(contractErrors('keysList', answer.body)).toEqual([])
  expect(answer.body.keys).toEqual([{ ...told, last_used_at: expect.any(String) }])
  expect(JSON.stringify(answer.body)).not.toMatch(new RegExp(`${key.slice(-64)}|${hashKey(key)}`))

  const revoked = await service.call('DELETE', `/keys/${told.id}`)
  expect(revoked.body).toEqual({ id: told.id, name: 'nightly runs', deleted: true })
  const refused = await service.call('GET', '/train', undefined, as(key))
  expect(refused).toMatchObject({ status: 401, body: { detail: 'The API key has been revoked' } })
  expect(await listed()).toEqual([])
  expect((await service.call('DELETE', `/keys/${told.id}`)).status).toBe(404)
  const log = service.logged.join('')
  expect(log).toContain(`"made":"${told.id}"`)
  expect(log).toContain(`"revoked":"${told.id}"`)
  expect(log).not.toMatch(new RegExp(`${key.slice(-64)}|${hashKey(key)}|nightly`))
})

test('a key ends by itself at its time', async () => {
  const soon = new Date(Date.now() + 3_600_000).toISOString()
  const { body } = await make({ name: 'for an hour', scopes: ['read'], expires_at: soon })
  expect(body.expires_at).toBe(soon)
  expect((await make({ name: 'for ever', scopes: ['read'], expires_at: null })).body.expires_at).toBeNull()
})

test('a key that ends makes none that live on', async () => {
  const end = new Date(Date.now() + 3_600_000).toISOString()
  const { key } = (await make({ name: 'admin for an hour', scopes: ['admin'], expires_at: end })).body
  expect((await make({ name: 'like it', scopes: ['read'] }, key)).body.expires_at).toBe(end)
  const sooner = new Date(Date.now() + 60_000).toISOString()
  expect((await make({ name: 'sooner', scopes: ['read'], expires_at: sooner }, key)).body.expires_at).toBe(sooner)
  const { status, body } = await make({ name: 'later', scopes: ['read'], expires_at: '2999-01-01T00:00:00Z' }, key)
  expect(status).toBe(422)
  expect(body.detail).toContain(`expires_at must be ${end} at the latest`)
})

test.each([
  [{ name: '', scopes: ['read'] }, 'name'],
  [{ name: 'two\nlines', scopes: ['read'] }, 'name'],
  [{ name: 'escape\u001b[2J', scopes: ['read'] }, 'name'],
  [{ name: 'x'.repeat(101), scopes: ['read'] }, 'name'],
  [{ name: 'x', scopes: [] }, 'scopes'],
  [{ name: 'x', scopes: ['read', 'read'] }, 'scopes', 'must not name the text "read" twice'],
  [{ name: 'x', scopes: ['write'] }, 'scopes.0'],
  [
    { name: 'x', scopes: ['read'], expires_at: 'tomorrow' },
    'expires_at',
    'must be a date, a time and its zone, such as 2030-01-31T12:00:00Z, not the text "tomorrow"',
  ],
  [{ name: 'x', scopes: ['read'], expires_at: 5 }, 'expires_at', 'must be text or null, not 5'],
  [{ name: 'x', scopes: ['read'], expires_at: '2020-01-01T00:00:00Z' }, 'expires_at'],
  [{ name: 'x' }, 'scopes'],
  [{ name: 'x', scopes: ['read'], key: 'mt_mine' }, 'key'],
])('%j is refused, and its field named', async (body: object, field: string, message?: string) => {
  const before = await listed()
  const refused = await make(body)
  expect(refused).toMatchObject({ status: 422, body: { errors: [{ field }] } })
  if (message) expect(refused.body.detail).toBe(`${field} ${message}`)
  expect(await listed()).toEqual(before)
})

test.each(['train', 'generate', 'read'] as const)(
  'a key with %s alone can neither make nor revoke any',
  async (scope) => {
    const key = await service.key([scope])
    expect((await make({ name: 'more', scopes: ['admin'] }, key)).status).toBe(403)
    expect((await service.call('GET', '/keys', undefined, as(key))).status).toBe(403)
    const id = key.slice(3, 15)
    expect((await service.call('DELETE', `/keys/${id}`, undefined, as(key))).status).toBe(403)
  },
)

describe('GET /keys/me', () => {
  test.each([
    [['read'], ['read']],
    [['train'], ['read', 'train']],
    [
      ['generate', 'train'],
      ['read', 'train', 'generate'],
    ],
    [['admin'], SCOPES],
  ])('%j may %j', async (scopes, may) => {
    const { body: made } = await make({ name: 'mine', scopes })
    const { status, body } = await service.call('GET', '/keys/me', undefined, as(made.key))
    expect(status).toBe(200)
    expect(contractErrors('keysOwn', body)).toEqual([])
    expect(body).toEqual({ id: made.id, name: 'mine', scopes, may, expires_at: null })
  })

  test('the configured key has no number', async () => {
    const { body } = await service.call('GET', '/keys/me')
    expect(body).toEqual({ id: 'admin', name: 'admin', scopes: ['admin'], may: SCOPES, expires_at: null })
    expect((await service.call('GET', '/keys/me', undefined, {})).status).toBe(401)
  })
})

test('streams that are open with a key end with it; those of others, and the revoking request, go on', async () => {
  await service.app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = service.app.server.address() as AddressInfo
  await service.store.insertJob(newJob('long'), [{ type: 'state', data: { state: 'queued' } }])
  const open = async (key: string) => {
    const sent = request({ port, path: '/train/long/events', headers: as(key) }).end()
    const [response] = await once(sent, 'response')
    await once(response, 'data')
    response.resume()
    return { response, closed: once(response, 'close').catch((error) => error) }
  }
  const { body: own } = await make({ name: 'revokes itself', scopes: ['admin'] })
  const mine = await open(own.key)
  const other = await open(await service.key(['read']))
  const answer = await fetch(`http://127.0.0.1:${port}/keys/${own.id}`, { method: 'DELETE', headers: as(own.key) })
  expect(answer.status).toBe(200)
  expect(await answer.json()).toMatchObject({ deleted: true })
  await mine.closed
  expect(mine.response.complete).toBe(false)
  expect(other.response.destroyed).toBe(false)
  other.response.destroy()
  await other.closed
})

import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { ROUTES, type Route } from '@mlx-training/contract'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newJob } from '../jobs/jobs.ts'
import { ADMIN, createService, type Service } from './service.ts'

let service: Service
beforeEach(async () => {
  service = await createService({ engine: 'echo' })
})
afterEach(() => service.close())

const OWN = /^req_[0-9a-f-]{36}$/
const lines = () => service.logged.map((line) => JSON.parse(line))

test('every answer has an id of its own: of each route, refused or not, and of what is no route', async () => {
  // A stream without an end is asked for its head alone.
  const methodOf = ({ path, method }: Route) => (path === ROUTES.trainChanges.path ? 'HEAD' : method)
  const asked = Object.values(ROUTES).map((route) => [methodOf(route), route.path.replaceAll(/:\w+/g, 'x')] as const)
  const others = [
    ['GET', '/nowhere'],
    ['DELETE', '/health'],
    ['GET', '/train/%zz/status'],
    ['GET', `/train/${'x'.repeat(300)}/status`],
    ['GET', '/docs/'],
    ['GET', '/openapi.json'],
  ] as const
  const ids = new Set<unknown>()
  for (const headers of [{ 'x-api-key': ADMIN }, {} as Record<string, string>])
    for (const [method, url] of [...asked, ...others]) {
      const answer = await service.call(method as 'GET', url, method === 'POST' ? {} : undefined, headers)
      expect(answer.headers['x-request-id'], `${method} ${url}: ${answer.status}`).toMatch(OWN)
      ids.add(answer.headers['x-request-id'])
    }
  expect(ids.size).toBe(2 * (asked.length + others.length))
})

test('streams carry it, and what is no HTTP at all', async () => {
  await service.jobs.submit(newJob('a', join(service.folder, 'a')))
  const url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  const headers = { 'x-api-key': ADMIN, 'x-request-id': 'mine' }
  const events = await fetch(`${url}/train/a/events`, { headers })
  expect(events.headers.get('x-request-id')).toBe('mine')
  await events.body?.cancel()
  for (const text of ['nonsense\r\n\r\n', 'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n']) {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.write(text)
    const [answer] = await once(socket, 'data')
    expect(String(answer)).toMatch(/\r\nX-Request-Id: req_[0-9a-f-]{36}\r\n/)
    socket.destroy()
  }
})

test("the client's own is kept, and what could do harm in a log replaced", async () => {
  const answered = async (given: string) => {
    const { headers } = await service.call('GET', '/nowhere', undefined, { 'x-request-id': given })
    const id = headers['x-request-id']
    expect(lines().findLast(({ msg }) => msg === 'answered')).toMatchObject({ request_id: id })
    return id
  }
  for (const sane of ['abc-123', 'a.b:c=d+e/f', '4bf92f3577b34da6a3ce929d0e0e4736', 'x'.repeat(128)])
    expect(await answered(sane)).toBe(sane)
  const insane = ['', 'two words', 'line\nbreak', '"quoted"', '<b>', 'ünïcode', 'a\u0000b', '{}', 'x'.repeat(129)]
  for (const given of insane) expect(await answered(given), given).toMatch(OWN)
})

test('lines about a request carry its id, and those about a job its name and id', async () => {
  await service.jobs.submit(newJob('a', join(service.folder, 'a')))
  const headers = { 'x-api-key': ADMIN, 'x-request-id': 'mine' }
  await service.call('POST', '/train/a/stop', undefined, headers)
  await service.call('GET', '/train/a/status', undefined, headers)
  await service.call('GET', '/train/none/status', undefined, headers)
  const answered = lines().filter(({ msg }) => msg === 'answered')
  const line = (path: string, status: number, level: number, job: string) => ({
    request_id: 'mine',
    job,
    key: 'admin',
    path,
    status,
    level,
  })
  expect(answered).toMatchObject([
    line('/train/a/stop', 200, 30, 'a'),
    // Dashboards ask all the time.
    line('/train/a/status', 200, 20, 'a'),
    line('/train/none/status', 404, 30, 'none'),
  ])
})

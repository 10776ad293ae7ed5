import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { JobEvent } from '@mlx-training/contract'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import { newJob } from '../jobs/jobs.ts'
import { ADMIN, createService, type Service, type ServiceOptions } from './service.ts'

let service: Service
let url: string
let job: Job

async function begin(options: ServiceOptions = {}): Promise<void> {
  service = await createService(options)
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  job = await service.jobs.submit(newJob('a', `${service.folder}/outputs/a`))
}
beforeEach(() => begin())
afterEach(async () => {
  await service.close()
})

/** Appends n step events with `data` and wakes the readers. */
async function append(count: number, data: object = {}, type: JobEvent['type'] = 'step'): Promise<void> {
  const events = Array.from({ length: count }, (_, i) => ({ type, data: { ...data, i } }))
  await service.store.update(job.id, null, () => ({ change: {}, events }))
  service.notifier.publish('events', job.id)
}

async function end(): Promise<void> {
  await service.jobs.stop('a')
}

const open = (headers: Record<string, string> = {}, query = '') =>
  fetch(`${url}/train/a/events${query}`, { headers: { 'x-api-key': ADMIN, ...headers } })

/** Messages of a stream up to its end, or up to the one that `last` accepts. */
async function read(response: Response, last: (event: JobEvent) => boolean = () => false): Promise<JobEvent[]> {
  const events: JobEvent[] = []
  let text = ''
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += chunk
    for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
      const message = text.slice(0, at)
      text = text.slice(at + 2)
      const match = /^id: (\d+)\nevent: (\w+)\ndata: (.+)$/.exec(message)
      if (!match) continue
      const event = JSON.parse(match[3] ?? '') as JobEvent
      expect([String(event.id), event.type]).toEqual([match[1], match[2]])
      events.push(event)
      if (last(event)) return events
    }
  }
  return events
}

const ids = (events: JobEvent[]) => events.map(({ id }) => id)
const upTo = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe('event streams', () => {
  test('replay, follow and end after the last event', async () => {
    await append(1200)
    const response = await open()
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(response.headers.get('x-accel-buffering')).toBe('no')
    expect(response.headers.get('x-request-id')).toMatch(/^req_/)
    const reading = read(response)
    await append(3)
    await end()
    const events = await reading
    expect(ids(events)).toEqual(upTo(1, 1206))
    expect(events.at(-1)).toMatchObject({ type: 'end', job_id: job.id, data: { state: 'stopped' } })
  })

  test('goes on after Last-Event-ID or ?after=, the header winning', async () => {
    await append(10)
    await end()
    expect(ids(await read(await open({ 'last-event-id': '7' })))).toEqual(upTo(8, 13))
    expect(ids(await read(await open({}, '?after=10')))).toEqual(upTo(11, 13))
    expect(ids(await read(await open({ 'last-event-id': '12' }, '?after=1')))).toEqual([13])
    expect(ids(await read(await open({ 'last-event-id': '' })))).toEqual(upTo(1, 13))
  })

  test('an id from an experiment that was replaced by this one starts anew', async () => {
    await append(3)
    await end()
    expect(ids(await read(await open({ 'last-event-id': '500' })))).toEqual(upTo(1, 6))
  })

  test('?after= beyond the end of a job follows it: what is to come, and nothing of before', async () => {
    await append(3)
    const response = await open({}, '?after=500')
    const reading = read(response)
    await append(2)
    await end()
    expect(ids(await reading)).toEqual(upTo(5, 8))
    expect(await read(await open({}, '?after=500'))).toEqual([])
  })

  test('a reader that has seen everything of an ended job is let go', async () => {
    await end()
    expect(await read(await open({ 'last-event-id': '3' }))).toEqual([])
  })

  test.each(['x', '-1', '1.5', '99999999999999999999'])('Last-Event-ID "%s": 400', async (id) => {
    const response = await open({ 'last-event-id': id })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error_type: 'ValidationError' })
  })

  test('connecting again and again loses and repeats nothing', async () => {
    const seen: JobEvent[] = []
    for (let round = 0; round < 8; round++) {
      await append(7)
      const response = await open({ 'last-event-id': String(seen.at(-1)?.id ?? 0) })
      let more = 1 + round
      seen.push(...(await read(response, () => --more === 0)))
    }
    await end()
    seen.push(...(await read(await open({ 'last-event-id': String(seen.at(-1)?.id) }))))
    expect(ids(seen)).toEqual(upTo(1, 1 + 56 + 2))
  })

  test('HEAD tells the type and sends nothing', async () => {
    const response = await fetch(`${url}/train/a/events`, { method: 'HEAD', headers: { 'x-api-key': ADMIN } })
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    expect(await response.text()).toBe('')
  })

  test('a reader that leaves is forgotten', async () => {
    const socket = await rawReader()
    await once(socket, 'data')
    socket.destroy()
    await gone()
    const asked = countReads()
    await append(1)
    expect(asked()).toBe(0)
  })

  test('closing the server ends streams', async () => {
    const reading = read(await open())
    await service.app.close()
    expect(ids(await reading)).toEqual([1])
  })
})

/** Resolves when the server holds no connection. */
async function gone(): Promise<void> {
  const count = () =>
    new Promise<number>((told, failed) => service.app.server.getConnections((e, n) => (e ? failed(e) : told(n))))
  while ((await count()) > 0) await new Promise((resume) => setTimeout(resume, 20))
}

/** How often the history has been read from the store since. */
function countReads(): () => number {
  let asked = 0
  const { eventsAfter } = service.store
  service.store.eventsAfter = (...args) => {
    asked++
    return eventsAfter(...args)
  }
  return () => asked
}

async function rawReader(): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.on('error', () => {})
  socket.write(`GET /train/a/events HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ${ADMIN}\r\nConnection: close\r\n\r\n`)
  return socket
}

describe('slow readers', () => {
  const megabyte = { text: 'x'.repeat(1024 * 1024) }

  test('heartbeats while nothing happens', async () => {
    await service.close()
    await begin({ sseTimes: { heartbeatMs: 20, stalledMs: 1000 } })
    const socket = await rawReader()
    let text = ''
    await new Promise<void>((done) =>
      socket.on('data', (chunk) => {
        text += chunk
        if (text.split('\n:\n\n').length > 2 || /(:\n\n.*){3}/s.test(text)) done()
      }),
    )
    expect(text).toContain('retry: 2000')
    socket.destroy()
  })

  test('one that never reads gets one batch buffered at most, and is cut', async () => {
    await service.close()
    await begin({ sseTimes: { heartbeatMs: 50, stalledMs: 300 } })
    for (let i = 0; i < 8; i++) await append(5, megabyte)
    const asked = countReads()
    const socket = await rawReader()
    socket.pause()
    await gone()
    // 41 events fit into one batch of the log; the stream did not ask for another after it.
    expect(asked()).toBe(1)
    socket.destroy()
  })

  test('one that reads slowly gets everything', async () => {
    for (let i = 0; i < 4; i++) await append(5, megabyte)
    await end()
    const socket = await rawReader()
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk
      socket.pause()
      setTimeout(() => socket.resume(), 2)
    })
    await once(socket, 'end').catch(() => {})
    expect([...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))).toEqual(upTo(1, 23))
  }, 60_000)
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MlxTraining } from '../src/client.ts'
import { ConnectionError, ConnectionTimeoutError, NotFoundError, ServerError } from '../src/errors.ts'
import { type Message, messagesOf } from '../src/sse.ts'
import { json, localServer } from './local-server.ts'

const encoder = new TextEncoder()
const streamOf = (chunks: Uint8Array[]) => ReadableStream.from(chunks) as ReadableStream<Uint8Array>

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const seen: T[] = []
  for await (const item of items) seen.push(item)
  return seen
}

describe('server-sent events', () => {
  it('are the same however the bytes come, whatever ends the lines', async () => {
    const line = fc.string({ unit: 'grapheme' }).map((text) => text.replace(/[\r\n\0]/g, ''))
    const message = fc.record({ event: fc.constantFrom('message', 'step', 'error'), data: line, id: line })
    await fc.assert(
      fc.asyncProperty(
        fc.array(message, { maxLength: 5 }),
        fc.constantFrom('\n', '\r\n', '\r'),
        fc.array(fc.nat(400)),
        async (messages, end, cuts) => {
          const text = messages.map(({ event, data, id }) =>
            [`event: ${event}`, ':', `id: ${id}`, `data: ${data}`, '', ''].join(end),
          )
          const bytes = encoder.encode(text.join(`: comment${end}${end}`))
          const places = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]
          const chunks = places.slice(1).map((place, nth) => bytes.subarray(places[nth], place))
          // A lone CR at the very end may be half of a CRLF, so that the last message waits for more.
          const seen: Message[] = await all(messagesOf(streamOf([...chunks, encoder.encode(':\n')])))
          expect(seen).toEqual(messages)
        },
      ),
      { numRuns: 200 },
    )
  })

  it('join lines of data, keep the last id, and drop what is not finished', async () => {
    const text = 'id: 7\ndata: a\ndata:b\n\ndata\n\nretry: 5\nevent: x\n\ndata: late'
    expect(await all(messagesOf(streamOf([encoder.encode(text)])))).toEqual([
      { event: 'message', data: 'a\nb', id: '7' },
      { event: 'message', data: '', id: '7' },
    ])
  })

  it('of a stream that is silent too long end with an error, and cancel it', async () => {
    let cancelled = false
    const silent = new ReadableStream<Uint8Array>({
      cancel() {
        cancelled = true
      },
    })
    await expect(all(messagesOf(silent, 20))).rejects.toBeInstanceOf(ConnectionTimeoutError)
    expect(cancelled).toBe(true)
  })
})

const event = (id: number, type = 'step') =>
  `id: ${id}\nevent: ${type}\ndata: ${JSON.stringify({ id, job_id: 'j', type, at: '2024-01-15T10:30:00Z', data: {} })}\n\n`

describe('events of a job', () => {
  it('come once each, over connections that break, servers that restart, and after what was known', async () => {
    const { baseURL, seen } = await localServer((response, nth) => {
      const stream = () => response.writeHead(200, { 'content-type': 'text/event-stream' })
      if (nth === 1) stream().write(`retry: 2000\n\n${event(3)}${event(4)}id: 5\nevent: st`, () => response.destroy())
      else if (nth === 2) json(response, 503, { detail: 'shutting down', status_code: 503, error_type: 'x' })
      else if (nth === 3) stream().end(event(5))
      else stream().end(event(6) + event(7, 'end'))
    })
    const events = await all(new MlxTraining({ baseURL }).train.events('n', { after: 2 }))
    expect(events.map(({ id }) => id)).toEqual([3, 4, 5, 6, 7])
    expect(seen.map(({ headers }) => headers['last-event-id'])).toEqual(['2', '4', '4', '5'])
  })

  it('go past the end that a resumed job had before', async () => {
    const { baseURL } = await localServer(
      (response) => void response.writeHead(200).end(event(1) + event(2, 'end') + event(3, 'state') + event(4, 'end')),
    )
    const events = await all(new MlxTraining({ baseURL }).train.events('n'))
    expect(events.map(({ id }) => id)).toEqual([1, 2, 3, 4])
  })

  it('after the last one are none', async () => {
    const { baseURL, seen } = await localServer((response) => void response.writeHead(200).end('retry: 2000\n\n'))
    expect(await all(new MlxTraining({ baseURL }).train.events('n', { after: 9 }))).toEqual([])
    expect(seen).toHaveLength(2)
  })

  it('of no such job are an error at once', async () => {
    const { baseURL, seen } = await localServer((response) =>
      json(response, 404, { detail: 'no such', status_code: 404, error_type: 'NotFoundError' }),
    )
    await expect(all(new MlxTraining({ baseURL }).train.events('n'))).rejects.toBeInstanceOf(NotFoundError)
    expect(seen).toHaveLength(1)
  })

  it('of a server that stays away are an error when patience is over', async () => {
    const client = new MlxTraining({ baseURL: 'http://127.0.0.1:1' })
    await expect(all(client.train.events('n', { patience: 300 }))).rejects.toBeInstanceOf(ConnectionError)
  })

  it('end with the reason of the signal', async () => {
    const { baseURL } = await localServer((response) => void response.writeHead(200).write(event(1)))
    const abort = new AbortController()
    const seen: number[] = []
    const following = (async () => {
      for await (const { id } of new MlxTraining({ baseURL }).train.events('n', { signal: abort.signal })) {
        seen.push(id)
        setTimeout(() => abort.abort(new Error('left')), 20)
      }
    })()
    await expect(following).rejects.toThrow('left')
    expect(seen).toEqual([1])
  })

  it('wait tells each and returns the status after the end', async () => {
    const { baseURL } = await localServer((response, _nth, { url }) =>
      url.endsWith('/events')
        ? void response.writeHead(200).end(event(1) + event(2, 'end'))
        : json(response, 200, { status: 'failed', reason: 'out of memory' }),
    )
    const seen: string[] = []
    const status = await new MlxTraining({ baseURL }).train.wait('n', { onEvent: ({ type }) => seen.push(type) })
    expect(seen).toEqual(['step', 'end'])
    expect(status).toMatchObject({ status: 'failed', reason: 'out of memory' })
  })
})

const change = (id: string, type: string, data: object = {}) =>
  `id: ${id}\nevent: ${type}\ndata: ${JSON.stringify({ id, type, ...data })}\n\n`

describe('changes of the list', () => {
  it('go on after the last that came, over streams that end and connections that break, until the signal aborts', async () => {
    const { baseURL, seen } = await localServer((response, nth) => {
      const stream = () => response.writeHead(200, { 'content-type': 'text/event-stream' })
      if (nth === 1) stream().end(change('t.4', 'jobs', { training_jobs: [] }))
      // Nothing has changed, and again nothing: that is no end.
      else if (nth < 4) stream().end('retry: 2000\n\n')
      else if (nth === 4) stream().write(change('t.5', 'removed', { experiment_name: 'a' }), () => response.destroy())
      else stream().write(change('u.1', 'jobs', { training_jobs: [] }))
    })
    const left = new AbortController()
    const ids: string[] = []
    const following = (async () => {
      for await (const { id } of new MlxTraining({ baseURL }).train.changes({ signal: left.signal }))
        if (ids.push(id) === 3) left.abort(new Error('left'))
    })()
    await expect(following).rejects.toThrow('left')
    expect(ids).toEqual(['t.4', 't.5', 'u.1'])
    expect(seen.map(({ url, headers }) => [url, headers['last-event-id']])).toEqual([
      ['/train/changes', undefined],
      ['/train/changes', 't.4'],
      ['/train/changes', 't.4'],
      ['/train/changes', 't.4'],
      ['/train/changes', 't.5'],
    ])
  })

  it('begin after what is known already; of a wrong key are an error at once', async () => {
    const { baseURL, seen } = await localServer((response) =>
      json(response, 401, { detail: 'no', status_code: 401, error_type: 'AuthenticationError' }),
    )
    await expect(all(new MlxTraining({ baseURL }).train.changes({ lastEventId: 't.9' }))).rejects.toMatchObject({
      status: 401,
    })
    expect(seen.map(({ headers }) => headers['last-event-id'])).toEqual(['t.9'])
  })
})

describe('an answer', () => {
  const piece = (text: string, index = 0) => `data: ${JSON.stringify({ text, index })}\n\n`
  const end = { finish_reason: 'stop', usage: { prompt_tokens: 3, completion_tokens: 2, cached_tokens: null } }

  it('comes in pieces, with its end', async () => {
    const { baseURL, seen } = await localServer(
      (response) =>
        void response
          .writeHead(200)
          .end(`${piece('a')}:\n\n${piece('x', 1)}${piece('b')}data: ${JSON.stringify(end)}\n\n`),
    )
    const answer = new MlxTraining({ baseURL }).generate.stream({ prompt: 'p' })
    const pieces: string[] = []
    expect(await answer.text((text) => pieces.push(text))).toBe('ab')
    expect(pieces).toEqual(['a', 'b'])
    expect(answer.end).toEqual(end)
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({ prompt: 'p', stream: true })
  })

  it('that fails in its middle is an error of its class', async () => {
    const body = { detail: 'The engine ended', status_code: 503, error_type: 'ServiceUnavailableError' }
    const { baseURL } = await localServer(
      (response) => void response.writeHead(200).end(`${piece('a')}event: error\ndata: ${JSON.stringify(body)}\n\n`),
    )
    const error = await new MlxTraining({ baseURL }).generate
      .stream({ prompt: 'p' })
      .text()
      .catch((error) => error)
    expect(error).toBeInstanceOf(ServerError)
    expect(error.message).toBe('The engine ended')
  })

  it('that breaks off is an error, not a short answer', async () => {
    const { baseURL } = await localServer((response) => void response.writeHead(200).end(piece('a')))
    await expect(new MlxTraining({ baseURL }).generate.stream({ prompt: 'p' }).text()).rejects.toThrow('broke off')
  })

  it('ends on the server when the reader leaves', async () => {
    let left: () => void
    const gone = new Promise<void>((resolve) => {
      left = resolve
    })
    const { baseURL } = await localServer((response) => {
      response.writeHead(200).write(piece('a'))
      response.once('close', () => left())
    })
    for await (const { text } of new MlxTraining({ baseURL }).generate.stream({ prompt: 'p' })) {
      expect(text).toBe('a')
      break
    }
    await gone
  })
})

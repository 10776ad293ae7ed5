import { describe, expect, it } from 'vitest'
import { MlxTraining } from '../src/client.ts'
import {
  ApiError,
  AuthenticationError,
  ConnectionError,
  ConnectionTimeoutError,
  errorOf,
  InsufficientStorageError,
  NotFoundError,
  RateLimitError,
  RequestError,
  ServerError,
  UnprocessableError,
} from '../src/errors.ts'
import { json, localServer } from './local-server.ts'

const STATUS = { experiment_name: 'n', status: 'running' }
const busy = { detail: 'Busy', status_code: 429, error_type: 'RateLimitError' }
const START = { experiment_name: 'n', model_name: 'm', dataset: { dataset_path: 'p' } }

describe('errors', () => {
  it('say what the service said, with its fields and the request’s id', async () => {
    const errors = [{ field: 'epochs', message: 'must be at least 1', given: 0 }]
    const { baseURL } = await localServer((response) =>
      json(
        response,
        422,
        { detail: 'epochs: must be at least 1', status_code: 422, error_type: 'ValidationError', errors },
        { 'x-request-id': 'r-1' },
      ),
    )
    const error = await new MlxTraining({ baseURL }).train.start(START).catch((error) => error)
    expect(error).toBeInstanceOf(UnprocessableError)
    expect(error).toBeInstanceOf(ApiError)
    expect(error).toMatchObject({
      name: 'UnprocessableError',
      status: 422,
      type: 'ValidationError',
      message: 'epochs: must be at least 1',
      errors,
      requestId: 'r-1',
    })
  })

  it('have a class for each status', () => {
    expect(errorOf(401, '{}')).toBeInstanceOf(AuthenticationError)
    expect(errorOf(404, '{}')).toBeInstanceOf(NotFoundError)
    expect(errorOf(507, '{}')).toBeInstanceOf(InsufficientStorageError)
    expect(errorOf(502, '{}')).toBeInstanceOf(ServerError)
    expect(errorOf(418, '{}').name).toBe('ApiError')
  })

  it('of something that is not the service tell what it said', () => {
    expect(errorOf(502, '<h1>Bad gateway</h1>').message).toBe('<h1>Bad gateway</h1>')
    expect(errorOf(502, '').message).toBe('The server answered with status 502 and no reason')
  })

  it('of a server that is not there say so, with its address', async () => {
    const client = new MlxTraining({ baseURL: 'http://127.0.0.1:1', maxRetries: 0 })
    const error = await client.health().catch((error) => error)
    expect(error).toBeInstanceOf(ConnectionError)
    expect(error.message).toMatch(/^GET http:\/\/127\.0\.0\.1:1\/health: .*(ECONNREFUSED|bad port)/)
  })
})

describe('tries again', () => {
  it('what the server was too busy for, when it says', async () => {
    const { baseURL, seen } = await localServer((response, nth) =>
      nth < 3 ? json(response, 429, busy, { 'retry-after': '0' }) : json(response, 200, STATUS),
    )
    expect(await new MlxTraining({ baseURL }).train.stop('n')).toEqual(STATUS)
    expect(seen).toHaveLength(3)
  })

  it('at most so many times', async () => {
    const { baseURL, seen } = await localServer((response) => json(response, 429, busy, { 'retry-after': '0' }))
    const error = await new MlxTraining({ baseURL, maxRetries: 1 }).train.stop('n').catch((error) => error)
    expect(error).toBeInstanceOf(RateLimitError)
    expect(error.retryAfter).toBe(0)
    expect(seen).toHaveLength(2)
  })

  it('a read whose connection broke, but not a command', async () => {
    const { baseURL, seen } = await localServer((response, nth) =>
      nth === 2 ? json(response, 200, STATUS) : void response.destroy(),
    )
    const client = new MlxTraining({ baseURL })
    expect(await client.train.status('n')).toEqual(STATUS)
    expect(seen).toHaveLength(2)
    await expect(client.train.stop('n')).rejects.toBeInstanceOf(ConnectionError)
    expect(seen).toHaveLength(3)
  })

  it('a start, with the same key, so that it happens once', async () => {
    const { baseURL, seen } = await localServer((response, nth) =>
      nth === 1 ? void response.destroy() : json(response, 200, { job_id: 'j' }),
    )
    const client = new MlxTraining({ baseURL })
    await client.train.start(START)
    await client.train.start(START)
    const keys = seen.map(({ headers }) => headers['idempotency-key'])
    expect(keys[0]).toBe(keys[1])
    expect(keys[2]).not.toBe(keys[1])
    await client.train.start(START, { idempotencyKey: 'mine' })
    expect(seen.at(-1)?.headers['idempotency-key']).toBe('mine')
  })

  it('not what is wrong', async () => {
    const { baseURL, seen } = await localServer((response) =>
      json(response, 404, { detail: 'no such', status_code: 404, error_type: 'NotFoundError' }),
    )
    await expect(new MlxTraining({ baseURL }).train.status('n')).rejects.toBeInstanceOf(NotFoundError)
    expect(seen).toHaveLength(1)
  })
})

describe('ends', () => {
  it('when no answer begins in time', async () => {
    const { baseURL } = await localServer(() => {})
    const client = new MlxTraining({ baseURL, timeout: 50, maxRetries: 0 })
    await expect(client.health()).rejects.toBeInstanceOf(ConnectionTimeoutError)
  })

  it('when the answer stops in its middle', async () => {
    const { baseURL } = await localServer((response) => void response.writeHead(200).write('{"a":'))
    const client = new MlxTraining({ baseURL, timeout: 50, maxRetries: 0 })
    await expect(client.health()).rejects.toBeInstanceOf(ConnectionTimeoutError)
  })

  it('with the reason of the caller’s signal, also while it waits to try again', async () => {
    const { baseURL } = await localServer((response) => json(response, 429, busy, { 'retry-after': '60' }))
    const client = new MlxTraining({ baseURL })
    const abort = new AbortController()
    setTimeout(() => abort.abort(new Error('enough')), 100)
    await expect(client.train.stop('n', { signal: abort.signal })).rejects.toThrow('enough')
    await expect(client.train.stop('n', { signal: abort.signal })).rejects.toThrow('enough')
  })
})

it('sends key, headers, queries and names as they are to be sent', async () => {
  const { baseURL, seen } = await localServer((response) => json(response, 200, {}))
  const client = new MlxTraining({ baseURL: `${baseURL}/`, apiKey: 'k', headers: { 'x-mine': '1' } })
  await client.train.status('a/../b c')
  await client.datasets.rows('ds_1', { offset: 20, issues: true })
  await client.datasets.upload(new Blob(['{"text":"é"}\n']), { name: 'x y.jsonl' })
  expect(seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'GET /train/a%2F..%2Fb%20c/status',
    'GET /datasets/ds_1/rows?offset=20&issues=true',
    'POST /datasets?name=x+y.jsonl',
  ])
  expect(seen[0]?.headers).toMatchObject({ 'x-api-key': 'k', 'x-mine': '1' })
  expect(seen[2]).toMatchObject({ body: '{"text":"é"}\n' })
  expect(seen[2]?.headers['content-type']).toBe('application/octet-stream')
})

it('sends nothing that would mean something else, and tells no key', async () => {
  const { baseURL, seen } = await localServer((response) => json(response, 200, {}))
  const client = new MlxTraining({ baseURL })
  for (const name of ['', '.', '..']) {
    expect(() => client.train.delete(name)).toThrow(RequestError)
    expect(() => client.datasets.get(name)).toThrow(`${JSON.stringify(name)} can't be a name`)
  }
  const error = await new MlxTraining({ baseURL, apiKey: 'se\ncret' }).health().catch((error) => error)
  expect(error).toBeInstanceOf(RequestError)
  expect(error.message).toMatch(/x-api-key/)
  expect(error.message).not.toMatch(/cret/)
  expect(seen).toEqual([])
})

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { GenerateEnd, GeneratePiece, GenerateResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { createService, putModel, type Service } from './service.ts'

let service: Service
let url: string

async function withModel(): Promise<Service> {
  const made = await createService({ engine: 'echo' })
  await putModel(join(made.folder, 'bundled', 'SmolLM2-135M-Instruct'))
  return made
}

beforeAll(async () => {
  service = await withModel()
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => await service.close())

async function post(body: object, signal?: AbortSignal): Promise<Response> {
  const headers = { 'content-type': 'application/json' }
  return await fetch(`${url}/generate`, { method: 'POST', headers, body: JSON.stringify(body), signal: signal ?? null })
}

interface Message {
  event: string
  data: unknown
}

/** By the rules of server-sent events, comments left out. */
function messagesOf(text: string): Message[] {
  return text
    .split('\n\n')
    .filter((block) => block && !block.startsWith(':'))
    .map((block) => {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1]
      return { event: field('event') ?? 'message', data: JSON.parse(field('data') ?? 'null') }
    })
}

test('a stream has the pieces of the answer, then how it ended and what it took', async () => {
  const response = await post({ prompt: 'hello', stream: true, max_tokens: 7, logprobs: true })
  expect(response.status).toBe(200)
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
  const messages = messagesOf(await response.text())
  const end = messages.pop()?.data as GenerateEnd
  const pieces = messages.map(({ data }) => data as GeneratePiece)
  expect(pieces.map(({ text }) => text)).toEqual(['echo ', 'user: hello'])
  expect(pieces[0]).toEqual({ text: 'echo ', index: 0, logprobs: [{ id: 5, text: 'echo ', logprob: -0.5, top: [] }] })
  expect(end).toMatchObject({
    finish_reason: 'stop',
    usage: { prompt_tokens: 11, completion_tokens: 7, cached_tokens: 0 },
    provider: 'LocalMLXProvider',
    tokens_generated: 7,
  })
})

test('without it the answer is one object, with logprobs and choices only when asked for', async () => {
  const plain = (await (await post({ prompt: 'hello' })).json()) as GenerateResponse
  expect(plain.text).toBe('echo user: hello')
  expect(plain).not.toHaveProperty('logprobs')
  expect(plain).not.toHaveProperty('choices')
  const told = (await (
    await post({ prompt: 'hello', logprobs: true, top_logprobs: 2, n: 1 })
  ).json()) as GenerateResponse
  expect(told.logprobs?.map(({ text }) => text)).toEqual(['echo ', 'user: hello'])
  expect(told.choices).toEqual([{ text: plain.text, finish_reason: 'stop', logprobs: told.logprobs }])
})

test('what fails before the first piece has its own status; a full queue says when to come back', async () => {
  const full = await post({ prompt: 'full', stream: true })
  expect(full.status).toBe(429)
  expect(full.headers.get('retry-after')).toBe('3')
  expect(await full.json()).toMatchObject({ detail: 'full', status_code: 429, error_type: 'RateLimitError' })
  expect((await post({ prompt: 'x', stream: true, model: 'nowhere' })).status).toBe(404)
  expect((await post({ prompt: 'x', stream: true, top_logprobs: 2 })).status).toBe(422)
})

test('what fails later is an event with the body of an error answer', async () => {
  const messages = messagesOf(await (await post({ prompt: 'break', stream: true })).text())
  expect(messages.at(-1)).toMatchObject({
    event: 'error',
    data: { detail: 'lost', status_code: 500, error_type: 'InternalServerError', request_id: expect.any(String) },
  })
})

test('a client that leaves cancels its answer at once', async () => {
  const client = new AbortController()
  const response = await post({ prompt: 'wait', stream: true }, client.signal)
  const reader = response.body?.getReader()
  await reader?.read()
  client.abort()
  const log = join(service.config.home, 'runs', 'generation', 'engine.log')
  await vi.waitFor(async () => expect(await readFile(log, 'utf8')).toContain('cancelled'), { timeout: 20_000 })
})

test('closing the server ends a stream with an error', async () => {
  const other = await withModel()
  try {
    const address = await other.app.listen({ host: '127.0.0.1', port: 0 })
    const response = await fetch(`${address}/generate`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'wait', stream: true }),
    })
    const text = response.text()
    void other.app.close()
    expect(messagesOf(await text).at(-1)).toMatchObject({ event: 'error', data: { status_code: 503 } })
  } finally {
    await other.close()
  }
})

test('a field that a hosted provider does not take is refused by its name', async () => {
  for (const field of ['top_k', 'min_p', 'n']) {
    const value = field === 'min_p' ? 0.5 : 3
    const response = await post({ prompt: 'x', model: 'openai/gpt-4.1', [field]: value })
    // No key is set here, which is told first only where the field is taken.
    expect(response.status, field).toBe(400)
    expect(await response.json()).toMatchObject({
      detail: expect.stringContaining(`${field}: openai does not take it`),
    })
  }
})

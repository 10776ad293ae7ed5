import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { GenerateEnd } from '@mlx-training/contract'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Answer, recorded, sse, Wire } from '../providers/wire.ts'
import { contractErrors, createService, type Service } from './service.ts'

const KEY = 'sk-proj-abcdefghijklmnopqrstuvwxyz1234567890'

let wire: Wire
let service: Service
let url: string
beforeAll(async () => {
  wire = await Wire.start()
  const env = { OPENAI_API_KEY: KEY, OPENAI_BASE_URL: `${wire.url}/v1`, MLX_TRAINING_PRICES: 'prices.json' }
  const put = async (folder: string) =>
    await writeFile(join(folder, 'prices.json'), '{"openai": {"gpt-4o*": {"input": 1, "output": 10}}}')
  service = await createService({ env, prepare: put })
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await service.close()
  await wire.stop()
})

const post = async (answer: Answer, body: object = {}, signal: AbortSignal | null = null) => {
  wire.answers = [answer]
  return await fetch(`${url}/generate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: 'Hello', model: 'openai/gpt-4o-mini', ...body }),
    signal,
  })
}

const dataOf = (text: string) =>
  text
    .split('\n\n')
    .filter((block) => block && !block.startsWith(':'))
    .map((block) => JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? 'null'))

test('a stream passes the deltas on, with usage and cost at its end', async () => {
  const response = await post(sse(recorded('openai-chat.sse')), { stream: true })
  const messages = dataOf(await response.text())
  const end = messages.pop() as GenerateEnd
  expect(messages).toEqual([
    { text: 'Grüß', index: 0 },
    { text: ' 👋🏽\n世界', index: 0 },
  ])
  expect(end).toMatchObject({
    finish_reason: 'stop',
    usage: { prompt_tokens: 19, completion_tokens: 10, cached_tokens: 4 },
    provider: 'OpenAIProvider',
    cost: { input: 0.000019, output: 0.0001, total: 0.000119, currency: 'USD' },
  })
})

test('a plain answer has them beside', async () => {
  const choice = { index: 0, message: { role: 'assistant', content: 'Hi' }, finish_reason: 'stop' }
  const usage = { prompt_tokens: 100, completion_tokens: 10 }
  const answer = { parts: [JSON.stringify({ model: 'gpt-4o-mini-2024', choices: [choice], usage })] }
  const body = await (await post(answer)).json()
  expect(contractErrors('generate', body)).toEqual([])
  expect(body).toMatchObject({ text: 'Hi', tokens_generated: 10, prompt_tokens: 100, cost: { total: 0.0002 } })
  const other = await (await post(answer, { model: 'openai/o3' })).json()
  expect(other).not.toHaveProperty('cost')
})

test('an error in mid-stream is an event with the body of an error answer', async () => {
  const error = { error: { message: `No more for ${KEY}`, type: 'insufficient_quota', code: 'insufficient_quota' } }
  const chunk = 'data: {"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
  const text = await (await post(sse(chunk, `data: ${JSON.stringify(error)}\n\n`), { stream: true })).text()
  expect(text).toMatch(/^event: error$/m)
  expect(dataOf(text).at(-1)).toEqual({
    detail:
      'openai says that the account of OPENAI_API_KEY has no credit left, or reached its limit: No more for [key]',
    status_code: 502,
    error_type: 'ProviderError',
    reason: 'quota',
    request_id: expect.any(String),
  })
})

test('what fails before the first piece has its own status and Retry-After', async () => {
  const busy = { status: 429, headers: { 'retry-after': '17' }, parts: [`{"error":{"message":"Slow, ${KEY}"}}`] }
  const response = await post(busy, { stream: true })
  expect([response.status, response.headers.get('retry-after')]).toEqual([429, '17'])
  expect(await response.json()).toEqual({
    detail: 'openai limits the rate of this key: Slow, [key]',
    status_code: 429,
    error_type: 'RateLimitError',
    reason: 'rate_limit',
  })
})

test('a client that leaves ends the request at the provider', async () => {
  const chunk = 'data: {"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
  const before = wire.left
  const client = new AbortController()
  const response = await post({ ...sse(chunk), ends: 'hang' }, { stream: true }, client.signal)
  await response.body?.getReader().read()
  client.abort()
  await vi.waitFor(() => expect(wire.left).toBe(before + 1))
})

test('the list of providers keeps to the contract and never waits', async () => {
  wire.answers = [{ ends: 'hang' }]
  const { body } = await service.call('GET', '/providers')
  expect(contractErrors('providers', body)).toEqual([])
  expect(body.current_provider.available_providers[0]).toEqual({
    name: 'OpenAIProvider',
    available: true,
    state: 'unchecked',
    checked_at: null,
  })
})

test('nothing of the key was logged', () => {
  expect(service.logged.length).toBeGreaterThan(0)
  expect(service.logged.join('\n')).not.toContain('abcdefgh')
})

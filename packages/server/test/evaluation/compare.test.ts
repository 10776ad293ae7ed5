import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CompareResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { contractErrors, createService, putModel, type Service } from '../http/service.ts'
import { StandIn } from '../providers/stand-in.ts'

// The engine's process echoes; the hosted provider replays recorded exchanges.
vi.setConfig({ testTimeout: 60_000 })
let service: Service
let openai: StandIn
beforeAll(async () => {
  openai = await StandIn.start('openai')
  service = await createService({
    engine: 'echo',
    env: { OPENAI_API_KEY: 'sk-test', OPENAI_BASE_URL: `${openai.url}/v1`, MLX_TRAINING_PRICES: 'prices.json' },
    prepare: (folder) =>
      writeFile(join(folder, 'prices.json'), '{"local_mlx": {"./tiny": {"input": 1000, "output": 2000}}}'),
  })
  await putModel(join(service.folder, 'bundled', 'SmolLM2-135M-Instruct'))
  await putModel(join(service.folder, 'tiny'))
  await service.engine.ready()
}, 60_000)
afterAll(async () => {
  await service?.close()
  await openai.stop()
}, 60_000)

const MODELS = ['SmolLM2-135M-Instruct', './tiny']
const compare = (body: object) => service.call('POST', '/compare', body)

test('one prompt to two models, side by side, scored against the reference', async () => {
  const { status, body } = await compare({
    models: MODELS,
    prompt: 'hello',
    reference: 'Echo: user: hello!',
    max_tokens: 7,
  })
  expect(status, JSON.stringify(body)).toBe(200)
  expect(contractErrors('compare', body)).toEqual([])
  const { items, summary } = body as CompareResponse
  expect(items).toHaveLength(1)
  expect(items[0]?.answers.map(({ model }) => model)).toEqual(MODELS)
  for (const answer of items[0]?.answers ?? []) {
    expect(answer).toMatchObject({
      provider: 'LocalMLXProvider',
      text: 'echo user: hello',
      finish_reason: 'stop',
      prompt_tokens: 11,
      completion_tokens: 7,
      error: null,
      scores: { exact_match: 0, rouge_1: 1, rouge_2: 1, rouge_l: 1 },
    })
    expect(answer.first_token_ms).toBeGreaterThan(0)
    expect(answer.total_ms).toBeGreaterThanOrEqual(answer.first_token_ms ?? Number.NaN)
    expect(answer.tokens_per_second).toBeGreaterThan(0)
  }
  expect(items[0]?.answers.map(({ cost }) => cost)).toEqual([null, 0.025])
  expect(summary.map(({ cost }) => cost)).toEqual([null, 0.025])
  expect(summary[1]).toMatchObject({ model: './tiny', answered: 1, failed: 0, completion_tokens: 7, scored: 1 })
})

test('many items in their order, with system turns, and without scores where there is no reference', async () => {
  const items = [
    ...Array.from({ length: 24 }, (_, i) => ({ prompt: `number ${i}`, reference: `number ${i}` })),
    { messages: [{ role: 'user', content: 'last' }] },
  ]
  const { body } = await compare({ models: MODELS, items, system: 'Brief' })
  expect(body.items.map((item: { item: number }) => item.item)).toEqual(items.map((_, i) => i))
  expect(body.items[3].answers[1].text).toBe('echo system: Brief\nuser: number 3')
  expect(body.items[24]).toMatchObject({ reference: null, answers: [{ text: 'echo user: last', scores: null }, {}] })
  expect(body.summary[0]).toMatchObject({ answered: 25, scored: 24, scores: { exact_match: 0 } })
})

test('what fails is told in its place, and the others answer', async () => {
  openai.play('wrong_key')
  const models = ['SmolLM2-135M-Instruct', 'fine-tuned/none', 'nowhere', 'openai/gpt-4.1', 'openai/', './tiny']
  const { status, body } = await compare({ models, prompt: 'hello', reference: 'x' })
  expect(status).toBe(200)
  expect(contractErrors('compare', body)).toEqual([])
  const [base, none, nowhere, hosted, unnamed, tiny] = (body as CompareResponse).items[0]?.answers ?? []
  expect([base?.text, tiny?.text]).toEqual(['echo user: hello', 'echo user: hello'])
  expect(none?.error).toMatchObject({ status_code: 404, detail: expect.stringContaining('no experiment "none"') })
  expect(nowhere).toMatchObject({ text: null, scores: null, error: { status_code: 404 } })
  expect(hosted).toMatchObject({ provider: 'OpenAIProvider', error: { reason: 'bad_key' } })
  expect(hosted?.error?.status_code).toBeGreaterThanOrEqual(400)
  expect(unnamed?.error).toMatchObject({ status_code: 400 })
  expect(body.summary.map(({ failed }: { failed: number }) => failed)).toEqual([0, 1, 1, 1, 1, 0])
})

test.each([
  [{}, ['prompt']],
  [{ prompt: 'a', messages: [{ role: 'user', content: 'b' }] }, ['messages']],
  [{ prompt: 'a', items: [{ prompt: 'b' }] }, ['prompt']],
  [
    { items: [{ prompt: 'a' }, { reference: 'r' }, { prompt: 'b', messages: [{ role: 'user', content: 'c' }] }] },
    ['items.1.prompt', 'items.2.messages'],
  ],
  [{ items: [{ messages: [{ role: 'user', content: 'c' }], system: 's' }] }, ['items.0.system']],
  [{ raw: true, messages: [{ role: 'user', content: 'c' }] }, ['messages']],
  [{ raw: true, items: [{ prompt: 'a', system: 's' }] }, ['items.0.system']],
  [{ prompt: 'a', models: [] }, ['models']],
  [{ items: Array.from({ length: 51 }, () => ({ prompt: 'a' })) }, ['items']],
])('%j names what is wrong', async (change, fields) => {
  const { status, body } = await compare({ models: MODELS, ...change })
  expect(status).toBe(422)
  expect(body.errors.map(({ field }: { field: string }) => field)).toEqual(fields)
})

test('streamed, each answer is an event as it comes, and the summary the last', async () => {
  const { body, headers } = await compare({ models: MODELS, items: [{ prompt: 'a' }, { prompt: 'b' }], stream: true })
  expect(headers['content-type']).toContain('text/event-stream')
  const events = (body as string)
    .split('\n\n')
    .filter((block) => block.startsWith('data: '))
    .map((block) => JSON.parse(block.slice(6)))
  expect(events).toHaveLength(5)
  expect(new Set(events.slice(0, 4).map(({ item, answer }) => `${item} ${answer.model}`)).size).toBe(4)
  expect(events[4].summary.map(({ answered }: { answered: number }) => answered)).toEqual([2, 2])
})

test('a stream begins before the first answer', async () => {
  const server = await createService({ engine: 'echo' })
  await putModel(join(server.folder, 'tiny'))
  const url = await server.app.listen({ host: '127.0.0.1', port: 0 })
  const leaving = new AbortController()
  const response = await fetch(`${url}/compare`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ models: ['./tiny'], prompt: 'please wait', stream: true }),
    signal: leaving.signal,
  })
  const first = await response.body?.getReader().read()
  expect(new TextDecoder().decode(first?.value)).toBe(':\n\n')
  leaving.abort()
  await server.close()
})

test('a client that leaves cancels every answer that it waited for', async () => {
  const url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  const leaving = new AbortController()
  const items = Array.from({ length: 20 }, () => ({ prompt: 'please wait' }))
  const asked = fetch(`${url}/compare`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ models: MODELS, items }),
    signal: leaving.signal,
  })
  const refused = expect(asked).rejects.toThrow()
  const log = join(service.config.home, 'runs', 'generation', 'engine.log')
  await new Promise((resolve) => setTimeout(resolve, 300))
  leaving.abort()
  await refused
  // Those that were asked are cancelled, and the rest never asked: the engine answers others at once.
  await vi.waitFor(async () => expect(await readFile(log, 'utf8')).toContain('cancelled'), { timeout: 20_000 })
  expect((await compare({ models: MODELS, prompt: 'after' })).body.summary[0].answered).toBe(1)
  expect((await readFile(log, 'utf8')).match(/cancelled/g)?.length).toBeLessThanOrEqual(8)
})

/** OpenAI's own SDK, unchanged, against the HTTP service whose engine echoes. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ChatCompletionChunk } from '@mlx-training/contract'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { fingerprint } from '../../src/http/openai.ts'
import { contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let url: string
let client: OpenAI
const model = './tiny'
const user = (content: string) => [{ role: 'user' as const, content }]

beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'admin-key-of-the-tests', maxRetries: 0 })
}, 60_000)
afterAll(() => service.close())

const refusal = (asked: Promise<unknown>) =>
  asked.then(
    () => expect.unreachable(),
    (error) => error,
  )

test('an answer is one by the contract, with what it took', async () => {
  const answer = await client.chat.completions.create({
    model,
    messages: [
      { role: 'developer', content: 'Be kind' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'Hi ' },
          { type: 'text', text: 'there' },
        ],
      },
    ],
    max_completion_tokens: 7,
    stop: null,
    user: 'somebody',
    metadata: { any: 'thing' },
  })
  expect(contractErrors('openaiChat', answer)).toEqual([])
  expect(answer.choices).toMatchObject([
    { message: { content: 'echo system: Be kind\nuser: Hi there' }, finish_reason: 'stop', logprobs: null },
  ])
  expect(answer.usage).toMatchObject({ prompt_tokens: 30, completion_tokens: 7, total_tokens: 37 })
  expect(answer).toMatchObject({ model, id: expect.stringMatching(/^chatcmpl-/) })
  expect(answer.system_fingerprint).toMatch(/^fp_[0-9a-f]{10}$/)
})

test('a stream begins with the role, and ends with the reason, then the usage', async () => {
  const asked = { model, messages: user('hello'), stream: true, stream_options: { include_usage: true } } as const
  const chunks: OpenAI.ChatCompletionChunk[] = []
  for await (const chunk of await client.chat.completions.create({ ...asked, logprobs: true })) chunks.push(chunk)
  const deltas = chunks.map(({ choices }) => choices[0]?.delta)
  expect(deltas).toEqual([
    { role: 'assistant', content: '' },
    { content: 'echo ' },
    { content: 'user: hello' },
    {},
    undefined,
  ])
  expect(chunks.map(({ choices }) => choices[0]?.finish_reason ?? null)).toEqual([null, null, null, 'stop', null])
  expect(chunks[1]?.choices[0]?.logprobs?.content).toMatchObject([{ token: 'echo ', logprob: -0.5, top_logprobs: [] }])
  expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true)
  expect(chunks.at(-1)?.usage).toMatchObject({ prompt_tokens: 11 })
  expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
  const text = await (await post('/chat/completions', asked)).text()
  expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
})

const post = (path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })

const weather = {
  type: 'function' as const,
  function: { name: 'weather', parameters: { type: 'object' }, strict: true },
}

test('calls are read from the answer, whole and in a stream, and go back to the model', async () => {
  const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
  const asked = { model, messages: user(`so:\n${call}\n`), tools: [weather] }
  const answer = await client.chat.completions.create(asked)
  expect(answer.choices[0]).toMatchObject({
    finish_reason: 'tool_calls',
    message: {
      content: 'echo user: so:',
      tool_calls: [{ type: 'function', function: { name: 'weather', arguments: '{"city":"Paris"}' } }],
    },
  })
  const final = await client.chat.completions.stream(asked).finalMessage()
  expect(final.tool_calls?.[0]).toMatchObject({ function: { name: 'weather', arguments: '{"city":"Paris"}' } })
  expect(final.content).toBe('echo user: so:')
  const without = await client.chat.completions.create({ ...asked, tool_choice: 'none' })
  expect(without.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: `echo user: so:\n${call}\n` } })
  const message = answer.choices[0]?.message as OpenAI.ChatCompletionMessage
  const id = message.tool_calls?.[0]?.id ?? ''
  const next = await client.chat.completions.create({
    ...asked,
    messages: [...user('Rain?'), message, { role: 'tool', tool_call_id: id, content: 'no' }],
  })
  expect(next.choices[0]?.message.content).toBe('echo user: Rain?\nassistant: echo user: so:\ntool: no')
})

test('without a key: no header', async () => {
  const defaultHeaders = { Authorization: null }
  const open = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', defaultHeaders, maxRetries: 0 })
  const answer = await open.chat.completions.create({ model, messages: user('Hi') })
  expect(answer.choices[0]?.message.content).toBe('echo user: Hi')
})

test('the fingerprint is the same after a restart, and another with another backend', () => {
  const print = (backend: string) => fingerprint({ ...service.engine.health(), backend })
  expect(print('MKL 2026.2 (preloaded, 226 GFLOP/s)')).toBe(print('MKL 2026.2 (preloaded, 97 GFLOP/s)'))
  expect(print('MKL 2026.2 (preloaded, 226 GFLOP/s)')).not.toBe(print('MKL 2026.3 (preloaded, 226 GFLOP/s)'))
  expect(print('Metal (900 GFLOP/s)')).toBe(print('Metal (901 GFLOP/s)'))
})

test('a seed of 63 bits is taken', async () => {
  for (const seed of [2 ** 63, -(2 ** 63)])
    await expect(client.chat.completions.create({ model, messages: user('Hi'), seed })).resolves.toBeTruthy()
  expect(await refusal(client.chat.completions.create({ model, messages: user('Hi'), seed: 2 ** 64 }))).toMatchObject({
    status: 400,
    param: 'seed',
  })
})

test("a provider's name in another case is told, not looked for at the hub", async () => {
  const error = await refusal(client.chat.completions.create({ model: 'OpenAI/x', messages: user('Hi') }))
  expect(error).toMatchObject({ status: 404, message: expect.stringContaining('"openai/x"') })
})

test('completions: several prompts, echoed, each with its own offsets', async () => {
  const answer = await client.completions.create({ model, prompt: ['one', 'two'], logprobs: 0 })
  expect(contractErrors('openaiCompletions', answer)).toEqual([])
  expect(answer.choices.map(({ index, text }) => [index, text])).toEqual([
    [0, 'echo one'],
    [1, 'echo two'],
  ])
  expect(answer.choices[1]?.logprobs).toMatchObject({ tokens: ['echo ', 'two'], text_offset: [0, 5] })
  expect(answer.usage).toMatchObject({ prompt_tokens: 6, completion_tokens: 32 })
  const texts = ['', '']
  for await (const { choices } of await client.completions.create({
    model,
    prompt: ['a', 'b'],
    echo: true,
    stream: true,
  }))
    for (const { index, text } of choices) texts[index] += text
  expect(texts).toEqual(['aecho a', 'becho b'])
})

test.each([
  [{ messages: user('x'), temperature: 3 }, 'temperature', /at most 2/],
  [{ messages: [] }, 'messages', /at least 1/],
  [{ messages: [{ role: 'user', content: null }] }, 'messages[0].content', /is needed/],
  [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages[0].content[0].type', /must be text/],
  [{ messages: [{ role: 'wizard', content: 'x' }] }, 'messages[0].role', /one of developer/],
  [{ messages: user('x'), top_logprobs: 2 }, 'top_logprobs', /goes with logprobs/],
  [{ messages: user('x'), logit_bias: { 5: 1 } }, 'logit_bias', /not supported/],
  [{ messages: user('x'), functions: [] }, 'functions', /send tools/],
  [{ messages: user('x'), tool_choice: 'required' }, 'tool_choice', /there are no tools/],
  [{ messages: user('x'), tools: [weather], tool_choice: 'any' }, 'tool_choice', /auto, none, required or/],
  [
    { messages: user('x'), tools: [weather], tool_choice: { type: 'function', function: { name: 'rain' } } },
    'tool_choice',
    /"rain", which is none/,
  ],
  [{ messages: user('x'), response_format: { type: 'yaml' } }, 'response_format.type', /one of text/],
  [{ messages: user('x'), response_format: { type: 'json_schema' } }, 'response_format.json_schema.schema', /needed/],
  [
    { messages: user('x'), response_format: { type: 'json_object' }, tools: [weather] },
    'response_format',
    /with tools/,
  ],
  [{ messages: user('x'), stop: ['a', ''] }, 'stop[1]', /not be empty/],
  [{ messages: user('x'), n: 'two' }, 'n', /a whole number, not the text "two"/],
  [{ messages: user('x'), model: 'openai/gpt-4.1', top_k: 3 }, 'top_k', /openai does not take it/],
])('what can not be honoured is BadRequestError that names it: %j', async (wrong, param, message) => {
  const error = await refusal(client.chat.completions.create({ model, ...wrong } as never))
  expect(error).toBeInstanceOf(OpenAI.BadRequestError)
  expect(error).toMatchObject({
    status: 400,
    param,
    type: 'invalid_request_error',
    message: expect.stringMatching(message),
  })
})

test.each([
  [{ prompt: [[1, 2]] }, 'prompt[0]'],
  [{ prompt: 'x', suffix: 'y' }, 'suffix'],
  [{ prompt: 'x', best_of: 3 }, 'best_of'],
  [{ prompt: 'x', echo: true, logprobs: 1 }, 'echo'],
])('and in completions: %j', async (wrong, param) => {
  const error = await refusal(client.completions.create({ model, ...wrong } as never))
  expect(error).toBeInstanceOf(OpenAI.BadRequestError)
  expect(error.param).toBe(param)
})

test('other errors are of the classes that the SDK has for them', async () => {
  const chat = (change: object) => refusal(client.chat.completions.create({ model, messages: user('x'), ...change }))
  const missing = await chat({ model: 'fine-tuned/nobody' })
  expect(missing).toBeInstanceOf(OpenAI.NotFoundError)
  expect(missing).toMatchObject({ code: 'model_not_found', param: 'model' })
  expect(await chat({ model: '/etc' })).toMatchObject({
    status: 403,
    param: 'model',
    message: expect.stringMatching(/outside the folders/),
  })
  expect(await chat({ model: './' })).toMatchObject({
    status: 400,
    param: 'model',
    message: expect.stringMatching(/no config.json/),
  })
  const full = await chat({ messages: user('full') })
  expect(full).toBeInstanceOf(OpenAI.RateLimitError)
  expect(full.headers.get('retry-after')).toBe('3')
  const streamed = await chat({ messages: user('full'), stream: true })
  expect(streamed).toBeInstanceOf(OpenAI.RateLimitError)
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 })
  const unknown = await refusal(stranger.models.list())
  expect(unknown).toBeInstanceOf(OpenAI.AuthenticationError)
  expect(unknown.code).toBe('invalid_api_key')
  const embeddings = await refusal(client.embeddings.create({ model, input: 'x' }))
  expect(embeddings).toBeInstanceOf(OpenAI.NotFoundError)
  expect(embeddings).toMatchObject({ code: 'unknown_url', message: expect.stringContaining('no embeddings here') })
  const garbled = await post('/chat/completions', {}, { 'content-type': 'text/plain' })
  expect([garbled.status, await garbled.json()]).toMatchObject([415, { error: { type: 'invalid_request_error' } }])
})

test('what fails in mid-stream is thrown by the SDK', async () => {
  const stream = await client.chat.completions.create({ model, messages: user('break'), stream: true })
  const seen: ChatCompletionChunk[] = []
  const error = await refusal(
    (async () => {
      for await (const chunk of stream) seen.push(chunk as ChatCompletionChunk)
    })(),
  )
  expect(seen.length).toBeGreaterThan(1)
  expect(error).toBeInstanceOf(OpenAI.APIError)
  expect(error.message).toContain('lost')
})

test('a client that leaves cancels its answers, of several prompts as well', async () => {
  const log = join(service.config.home, 'runs', 'generation', 'engine.log')
  const cancelled = async () => (await readFile(log, 'utf8')).match(/cancelled/g)?.length ?? 0
  const stream = await client.completions.create({ model, prompt: ['wait', 'wait'], stream: true })
  for await (const _ of stream) break
  await vi.waitFor(async () => expect(await cancelled()).toBe(2), { timeout: 20_000 })
  const leaving = new AbortController()
  const asked = refusal(client.chat.completions.create({ model, messages: user('wait') }, { signal: leaving.signal }))
  // By then it is at the engine, on a busy machine too: one that never got there has nothing to cancel.
  setTimeout(() => leaving.abort(), 1000)
  expect(await asked).toBeInstanceOf(OpenAI.APIUserAbortError)
  await vi.waitFor(async () => expect(await cancelled()).toBe(3), { timeout: 20_000 })
})

test('one failing prompt ends the others', async () => {
  const log = join(service.config.home, 'runs', 'generation', 'engine.log')
  const before = (await readFile(log, 'utf8')).match(/cancelled/g)?.length ?? 0
  const cancelled = async () => (await readFile(log, 'utf8')).match(/cancelled/g)?.length ?? 0
  // Again, as on a busy machine the first may be given up before it is at the engine.
  const once = async () => {
    const error = await refusal(client.completions.create({ model, prompt: ['wait', 'full'] }))
    expect(error).toBeInstanceOf(OpenAI.RateLimitError)
    expect(await cancelled()).toBeGreaterThan(before)
  }
  await vi.waitFor(once, { timeout: 20_000, interval: 200 })
})

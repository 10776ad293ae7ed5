import type { ServiceError } from '@mlx-training/contract'
import { afterEach, describe, expect, it } from 'vitest'
import type { Engine } from '../../src/engine/port.ts'
import type { Models } from '../../src/models/port.ts'
import type { HostedOptions } from '../../src/providers/hosted.ts'
import { createProviders } from '../../src/providers/index.ts'
import { tokenLimitAt } from '../../src/providers/openai.ts'
import { ask, baseOf, config, failure, type Hosted, hosted, KEY, never } from './setup.ts'
import { StandIn } from './stand-in.ts'

const started: StandIn[] = []
afterEach(async () => {
  for (const standIn of started.splice(0)) await standIn.stop()
})

async function start(name: Hosted, options: Partial<HostedOptions> & { elsewhere?: string } = {}) {
  const server = await StandIn.start(name, { key: KEY, elsewhere: options.elsewhere ?? '' })
  started.push(server)
  return { server, provider: hosted(name, baseOf(name, server.url), options).get(name) }
}

describe('OpenAI', () => {
  it('sends a chat as documented and reads the answer', async () => {
    const { server, provider } = await start('openai')
    server.play('chat')
    const messages = [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'Hello!' },
    ] as const
    expect(await provider.generate(ask({ messages: [...messages], stop: ['END'], seed: 7 }), never)).toEqual({
      text: 'Hello! How can I assist you today?',
      model: 'gpt-4.1-2025-04-14',
      tokensGenerated: 10,
      promptTokens: 19,
      finishReason: 'stop',
      cachedTokens: 0,
    })
    expect(server.received[0]).toMatchObject({ headers: { authorization: `Bearer ${KEY}` } })
    expect(server.received[0]?.body).toEqual({
      model: 'gpt-4.1',
      messages,
      max_tokens: 100, // elsewhere than at OpenAI, where it is max_completion_tokens
      temperature: 0.7,
      top_p: 0.9,
      stop: ['END'],
      seed: 7,
    })
  })

  it('continues plain text by /completions', async () => {
    const { server, provider } = await start('openai')
    server.play('completion')
    expect(await provider.generate(ask({ messages: null, prompt: 'In the forest' }), never)).toMatchObject({
      text: ' there was a fox.',
      tokensGenerated: 7,
      finishReason: 'length',
    })
    expect(server.received[0]?.body).toEqual({
      model: 'gpt-4.1',
      prompt: 'In the forest',
      max_tokens: 100,
      temperature: 0.7,
      top_p: 0.9,
    })
  })

  it('asks again without sampling parameters when the model takes none', async () => {
    const { server, provider } = await start('openai')
    server.play('no_temperature', 'length')
    expect(await provider.generate(ask(), never)).toMatchObject({
      text: 'Quantum computing is',
      finishReason: 'length',
    })
    expect(server.received.map(({ body }) => 'temperature' in body || 'top_p' in body)).toEqual([true, false])
  })

  it('limits the answer in the words that the server knows', async () => {
    expect(tokenLimitAt('https://api.openai.com/v1')).toBe('max_completion_tokens')
    const { server, provider } = await start('openai')
    server.play('no_max_tokens', 'no_temperature', 'length')
    expect(await provider.generate(ask(), never)).toMatchObject({ finishReason: 'length' })
    expect(server.received.map(({ body }) => [body.max_tokens, body.max_completion_tokens])).toEqual([
      [100, undefined],
      [undefined, 100],
      [undefined, 100],
    ])
  })

  it.each<[string, Partial<ServiceError>, RegExp]>([
    [
      'wrong_key',
      { code: 'provider_error' },
      /^openai refused the key in OPENAI_API_KEY, set a valid one: Incorrect API key provided: \[key\]\. You/,
    ],
    [
      'echoed_key',
      { code: 'invalid_parameters' },
      /^openai refused the request: Header 'Authorization: Bearer \[key\]' is not allowed together with \[key\]$/,
    ],
    ['no_model', { code: 'not_found' }, /^openai has no model "gpt-4\.1": The model `gpt-9` does not exist/],
    ['rate_limit', { code: 'rate_limited', retryAfter: 20 }, /Rate limit reached for gpt-4\.1/],
    [
      'context_length',
      { code: 'context_length', reason: 'context_too_long' },
      /maximum context length is 16385 tokens/,
    ],
    ['server_error', { code: 'provider_error' }, /status 500: The server had an error/],
    ['overloaded', { code: 'unavailable', retryAfter: 60 }, /overloaded/],
    ['proxy_page', { code: 'provider_error' }, /^openai answered with status 502$/],
    ['not_a_completion', { code: 'provider_error' }, /not a completion/],
    ['reset', { code: 'unavailable' }, /can't be reached at 127\.0\.0\.1:\d+ \(ECONNRESET\)/],
    ['broken', { code: 'unavailable' }, /can't be reached at 127\.0\.0\.1:\d+/],
  ])('tells %s', async (turn, expected, text) => {
    const { server, provider } = await start('openai')
    server.play(turn)
    const error = await failure(provider.generate(ask(), never))
    expect(error).toMatchObject(expected)
    expect(error.message).toMatch(text)
    expect(server.received).toHaveLength(1)
  })

  it('tries again after short failures, twice at most', async () => {
    const { server, provider } = await start('openai', { retries: 2 })
    server.play('server_error', 'short_rate_limit', 'chat')
    expect(await provider.generate(ask(), never)).toMatchObject({ finishReason: 'stop' })
    server.play('server_error', 'proxy_page', 'server_error')
    expect(await failure(provider.generate(ask(), never))).toMatchObject({ code: 'provider_error' })
    expect(server.received).toHaveLength(6)
  })

  it('does not wait 20 s for a rate limit, but says when to come again', async () => {
    const { server, provider } = await start('openai', { retries: 2 })
    server.play('rate_limit')
    expect(await failure(provider.generate(ask(), never))).toMatchObject({ code: 'rate_limited', retryAfter: 20 })
    expect(server.received).toHaveLength(1)
  })

  it('gives up at the timeout, retries included', async () => {
    const { server, provider } = await start('openai', { totalMs: 150, retries: 2 })
    server.play('slow', 'slow', 'slow')
    const error = await failure(provider.generate(ask(), never))
    expect(error).toMatchObject({ code: 'provider_timeout', message: 'openai gave no whole answer within 0.15 s' })
  })

  it('is cancelled by the signal', async () => {
    const { server, provider } = await start('openai')
    server.play('slow')
    const controller = new AbortController()
    const answer = provider.generate(ask(), controller.signal)
    await expect.poll(() => server.received.length).toBe(1)
    controller.abort()
    expect(await failure(answer)).toMatchObject({ code: 'timeout' })
  })

  it('follows no redirect', async () => {
    const elsewhere = await StandIn.start('openai')
    started.push(elsewhere)
    elsewhere.play('chat')
    const { server, provider } = await start('openai', { elsewhere: elsewhere.url })
    server.play('redirect')
    const error = await failure(provider.generate(ask(), never))
    expect(error).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/redirect.*OPENAI_BASE_URL/) })
    expect(elsewhere.received).toEqual([])
  })

  it('is unreachable where nothing listens', async () => {
    const { server } = await start('openai')
    const { url } = server
    await server.stop()
    started.pop()
    const error = await failure(hosted('openai', `${url}/v1`).get('openai').generate(ask(), never))
    expect(error).toMatchObject({
      code: 'unavailable',
      message: `openai can't be reached at ${new URL(url).host} (ECONNREFUSED)`,
    })
  })

  it('tells a server without valid TLS, and a name that there is not', async () => {
    const { server } = await start('openai')
    const noTls = hosted('openai', server.url.replace('http:', 'https:')).get('openai')
    expect(await failure(noTls.generate(ask(), never))).toMatchObject({
      code: 'unavailable',
      reason: 'unreachable',
      message: expect.stringMatching(/certificate or TLS is not valid \(ERR_SSL_\w+\): see OPENAI_BASE_URL$/),
    })
    const noName = hosted('openai', 'http://nowhere.invalid/v1').get('openai')
    expect(await failure(noName.generate(ask(), never))).toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/there is no address for nowhere\.invalid \((ENOTFOUND|EAI_AGAIN)\)/),
    })
  })

  it('takes no tool turns', async () => {
    const { server, provider } = await start('openai')
    const messages = [{ role: 'tool', content: '4' }] as const
    expect(await failure(provider.generate(ask({ messages: [...messages] }), never))).toMatchObject({
      code: 'invalid_parameters',
      errors: [{ field: 'messages.0.role' }],
    })
    expect(server.received).toEqual([])
  })
})

describe('Anthropic', () => {
  const claude = (input: Parameters<typeof ask>[0] = {}) => ask({ model: 'claude-opus-4-7', ...input })

  it('sends a message as documented and reads the answer', async () => {
    const { server, provider } = await start('anthropic')
    server.play('message')
    const messages = [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: 'Who are you?' },
    ] as const
    expect(await provider.generate(claude({ messages: [...messages], stop: ['END'], seed: 7 }), never)).toEqual({
      text: 'Hi! My name is Claude.',
      model: 'claude-opus-4-7',
      tokensGenerated: 25,
      promptTokens: 10,
      finishReason: 'stop',
      cachedTokens: 0,
    })
    expect(server.received[0]?.headers).toMatchObject({
      authorization: `Bearer ${KEY}`,
      'anthropic-version': '2026-10-21',
    })
    expect(server.received[0]?.body).toEqual({
      model: 'claude-opus-4-7',
      max_tokens: 100,
      system: 'Be short.',
      messages: [{ role: 'user', content: 'Who are you?' }],
      stop_sequences: ['END'],
    })
  })

  it('tells that max_tokens cut the answer', async () => {
    const { server, provider } = await start('anthropic')
    server.play('max_tokens')
    expect(await provider.generate(claude(), never)).toMatchObject({ text: 'Once', finishReason: 'length' })
  })

  it('answers even long requests without a stream', async () => {
    const { server, provider } = await start('anthropic')
    server.play('message')
    expect(await provider.generate(claude({ maxTokens: 64_000 }), never)).toMatchObject({ finishReason: 'stop' })
  })

  it.each<[string, Partial<ServiceError>, RegExp]>([
    ['wrong_key', { code: 'provider_error' }, /ANTHROPIC_API_KEY/],
    ['no_model', { code: 'not_found' }, /anthropic has no model "claude-opus-4-7": model: claude-9/],
    [
      'context_length',
      { code: 'context_length', reason: 'context_too_long' },
      /prompt is too long: 210312 tokens > 200000 maximum/,
    ],
    ['rate_limit', { code: 'rate_limited', retryAfter: 37 }, /50 requests per minute/],
    ['overloaded', { code: 'unavailable' }, /Overloaded/],
    ['reset', { code: 'unavailable' }, /ECONNRESET/],
  ])('tells %s', async (turn, expected, text) => {
    const { server, provider } = await start('anthropic')
    server.play(turn)
    const error = await failure(provider.generate(claude(), never))
    expect(error).toMatchObject(expected)
    expect(error.message).toMatch(text)
  })

  it('refuses what it does not have', async () => {
    const { server, provider } = await start('anthropic')
    expect(await failure(provider.generate(claude({ messages: null, prompt: 'x' }), never))).toMatchObject({
      code: 'invalid_parameters',
      errors: [{ field: 'raw' }],
    })
    expect(server.received).toEqual([])
  })
})

describe('Together', () => {
  it('speaks the OpenAI API with max_tokens', async () => {
    const { server, provider } = await start('together')
    server.play('chat')
    expect(await provider.generate(ask({ model: 'meta-llama/Llama-3.3-70B-Instruct-Turbo' }), never)).toMatchObject({
      text: 'New York is a city.',
      tokensGenerated: 6,
      finishReason: 'stop',
    })
    expect(server.received[0]?.headers.authorization).toBe(`Bearer ${KEY}`)
    expect(server.received[0]?.body).toMatchObject({ max_tokens: 100 })
  })

  it.each<[string, string, RegExp]>([
    ['context_length', 'context_length', /must be <= 8193/],
    ['no_model', 'not_found', /Unable to access model/],
    ['payment', 'provider_error', /Credit limit exceeded/],
  ])('tells %s', async (turn, code, text) => {
    const { server, provider } = await start('together')
    server.play(turn)
    expect(await failure(provider.generate(ask(), never))).toMatchObject({ code, message: expect.stringMatching(text) })
  })
})

describe('Ollama', () => {
  it('chats by the OpenAI API and continues plain text by its own', async () => {
    const { server, provider } = await start('ollama')
    server.play('chat', 'raw')
    expect(await provider.generate(ask({ model: 'llama3.2' }), never)).toMatchObject({ text: 'This is a test.' })
    const raw = ask({ model: 'llama3.2', messages: null, prompt: 'Once upon a time,', stop: ['\n'], seed: 3 })
    expect(await provider.generate(raw, never)).toEqual({
      text: ' in a land far away',
      model: 'llama3.2',
      tokensGenerated: 5,
      promptTokens: 6,
      finishReason: 'length',
    })
    expect(server.received[1]?.body).toEqual({
      model: 'llama3.2',
      prompt: 'Once upon a time,',
      raw: true,
      stream: false,
      options: { num_predict: 100, temperature: 0.7, top_p: 0.9, stop: ['\n'], seed: 3 },
    })
  })

  it.each([
    ['no_model', ask()],
    ['no_model_raw', ask({ messages: null, prompt: 'x' })],
  ])('tells how to get a model: %s', async (turn, input) => {
    const { server, provider } = await start('ollama')
    server.play(turn)
    expect(await failure(provider.generate(input, never))).toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(/llama9.*ollama pull/),
    })
  })
})

describe('without a key', () => {
  it.each(['openai', 'anthropic', 'together'] as const)('%s says which to set', async (name) => {
    const provider = createProviders({
      config: config({}),
      engine: {} as Engine,
      models: {} as Models,
      jobs: { get: async () => null },
    }).get(name)
    const variable = `${name.toUpperCase()}_API_KEY`
    await expect(provider.generate(ask(), never)).rejects.toMatchObject({
      code: 'unavailable',
      reason: 'no_key',
      message: `${name} is not set up: set ${variable}`,
    })
  })
})

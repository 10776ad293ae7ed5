import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { GenerateInput } from '../../src/providers/port.ts'
import { ask, baseOf, collect, failure, HOSTED, type Hosted, hosted, KEY, never } from './setup.ts'
import { type Answer, recorded, sse, Wire } from './wire.ts'

const started: Wire[] = []
afterEach(async () => {
  for (const wire of started.splice(0)) await wire.stop()
})

type Options = Parameters<typeof hosted>[2]

async function start(name: Hosted, answers: Answer[], options?: Options) {
  const wire = await Wire.start(...answers)
  started.push(wire)
  return { wire, provider: hosted(name, baseOf(name, wire.url), options).get(name) }
}

const RAW = { messages: null, prompt: 'Once' }

/** As the providers document them. */
const RECORDED: [file: string, name: Hosted, input: Partial<GenerateInput>, texts: string[], output: object][] = [
  [
    'openai-chat.sse',
    'openai',
    {},
    ['Grüß', ' 👋🏽\n世界'],
    { model: 'gpt-4o-mini', tokensGenerated: 10, promptTokens: 19, cachedTokens: 4, finishReason: 'stop' },
  ],
  [
    'openai-completion.sse',
    'openai',
    RAW,
    [' there', ' was'],
    { model: 'gpt-3.5-turbo-instruct', tokensGenerated: 2, promptTokens: 5, finishReason: 'length' },
  ],
  [
    'together-chat.sse',
    'together',
    {},
    ['New York', ' is a city.'],
    {
      model: 'meta-llama/Llama-3.3-70B-Instruct-Turbo',
      tokensGenerated: 6,
      promptTokens: 42,
      cachedTokens: 0,
      finishReason: 'stop',
    },
  ],
  [
    'openai-chat.sse',
    'ollama',
    {},
    ['Grüß', ' 👋🏽\n世界'],
    { model: 'gpt-4o-mini', tokensGenerated: 10, promptTokens: 19, cachedTokens: 4, finishReason: 'stop' },
  ],
  [
    'ollama-raw.ndjson',
    'ollama',
    RAW,
    [' in a', ' länd'],
    { model: 'llama3.2', tokensGenerated: 3, promptTokens: 26, finishReason: 'stop' },
  ],
  [
    'anthropic-message.sse',
    'anthropic',
    {},
    ['Hello', ' wörld! 👋'],
    { model: 'claude-opus-4-7', tokensGenerated: 15, promptTokens: 25, cachedTokens: 0, finishReason: 'stop' },
  ],
]
const typed = (file: string, ...parts: NonNullable<Answer['parts']>): Answer =>
  file.endsWith('ndjson') ? { headers: { 'content-type': 'application/x-ndjson' }, parts } : sse(...parts)

describe('a stream as documented', () => {
  it.each(RECORDED)('%s of %s', async (file, name, input, texts, output) => {
    const { wire, provider } = await start(name, [typed(file, recorded(file))])
    const got = await collect(provider.stream(ask(input), never))
    expect(got).toEqual({ texts, output: { text: texts.join(''), ...output } })
    expect(wire.received[0]?.body).toMatchObject({
      stream: true,
      ...(name !== 'anthropic' && file.endsWith('sse') && { stream_options: { include_usage: true } }),
    })
  })

  it('is the same wherever its bytes are cut', async () => {
    // One connection a run is what takes the time; the cuts are the point.
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...RECORDED),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 60 }),
        fc.boolean(),
        async ([file, name, input, texts, output], places, carriage) => {
          const text = recorded(file).toString()
          const bytes = Buffer.from(carriage ? text.replaceAll('\n', '\r\n') : text)
          const cuts = [...new Set([0, ...places.map((p) => Math.floor(p * bytes.length)), bytes.length])]
          cuts.sort((a, b) => a - b)
          const parts = cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end))
          const { provider } = await start(name, [typed(file, ...parts)])
          const got = await collect(provider.stream(ask(input), never))
          expect(got).toEqual({ texts, output: { text: texts.join(''), ...output } })
        },
      ),
      { numRuns: 40 },
    )
  })

  it('comes through as it comes, byte by byte where need be', async () => {
    const bytes = recorded('openai-chat.sse')
    const { provider } = await start('openai', [sse(...Array.from(bytes, (byte) => Uint8Array.of(byte)))])
    expect((await collect(provider.stream(ask(), never))).texts).toEqual(['Grüß', ' 👋🏽\n世界'])
  })
})

const ANTHROPIC = recorded('anthropic-message.sse').toString()
const delta = (content: string) =>
  `data: ${JSON.stringify({ model: 'm', choices: [{ index: 0, delta: { content } }] })}\n\n`
const END = `data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n`
const busy = (headers: Record<string, string> = {}): Answer => ({
  status: 429,
  headers,
  parts: ['{"error":{"message":"Slow down","type":"requests","code":"rate_limit_exceeded"}}'],
})

it('an answer that ends with [DONE] and tells no reason is whole, counted by its pieces', async () => {
  const { provider } = await start('openai', [sse(delta('a'), delta('b'), 'data: [DO', 'NE]\n', '\n')])
  const { texts, output } = await collect(provider.stream(ask(), never))
  expect(texts).toEqual(['a', 'b'])
  expect(output).toMatchObject({ text: 'ab', finishReason: null, tokensGenerated: 2, promptTokens: null })
  const cut = await start('openai', [sse(delta('a'), delta('data: [DONE]'))])
  expect(await failure(collect(cut.provider.stream(ask(), never)))).toMatchObject({ reason: 'bad_answer' })
})

describe('before the first piece', () => {
  it.each<[string, Answer]>([
    ['429', busy({ 'retry-after-ms': '3' })],
    ['425', { status: 425 }],
    ['409', { status: 409 }],
    ['503', { status: 503, headers: { 'retry-after': new Date(Date.now() - 1000).toUTCString() } }],
    ['a connection that breaks', { ends: 'cut' }],
    ['a stream that breaks', { ...sse(': waiting\n\n'), ends: 'cut' }],
    ['a stream without an answer', sse(': nothing\n\n', 'data: [DONE]\n\n')],
    ['an error as an event', sse('data: {"error":{"message":"The server had an error","type":"server_error"}}\n\n')],
  ])('%s is tried again', async (_, bad) => {
    const { wire, provider } = await start('openai', [bad, sse(delta('fine'), END)], { retries: 1 })
    expect((await collect(provider.stream(ask(), never))).texts).toEqual(['fine'])
    expect(wire.received).toHaveLength(2)
  })

  it('Anthropic overloaded, by status and by event, is tried again', async () => {
    const overloaded = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    const answers = [
      { status: 529, parts: [overloaded] },
      sse(`event: error\ndata: ${overloaded}\n\n`),
      sse(recorded('anthropic-message.sse')),
    ]
    const { wire, provider } = await start('anthropic', answers, { retries: 2 })
    expect((await collect(provider.stream(ask(), never))).output.tokensGenerated).toBe(15)
    expect(wire.received).toHaveLength(3)
  })

  it.each<[string, Answer, object]>([
    ['a long wait, in seconds', busy({ 'retry-after': '20' }), { code: 'rate_limited', retryAfter: 20 }],
    [
      'a long wait, as a date',
      busy({ 'retry-after': new Date(Date.now() + 100_500).toUTCString() }),
      { code: 'rate_limited', retryAfter: expect.toSatisfy((s: number) => s > 60 && s <= 101) },
    ],
    [
      'no credit',
      { status: 429, parts: ['{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}'] },
      { code: 'provider_error', reason: 'quota' },
    ],
    [
      'what the provider says is useless',
      { status: 500, headers: { 'x-should-retry': 'false' } },
      { reason: 'failed' },
    ],
  ])('%s is not', async (_, bad, expected) => {
    const { wire, provider } = await start('openai', [bad, sse(delta('late'), END)], { retries: 3 })
    expect(await failure(collect(provider.stream(ask(), never)))).toMatchObject(expected)
    expect(wire.received).toHaveLength(1)
  })

  it('a first byte that is late is a timeout', async () => {
    const { provider } = await start('openai', [{ ends: 'hang' }], { firstByteMs: 40 })
    const error = await failure(collect(provider.stream(ask(), never)))
    expect(error).toMatchObject({ code: 'provider_timeout', reason: 'timeout' })
    expect(error.message).toMatch(/^openai at 127\.0\.0\.1:\d+ sent nothing for 0\.04 s$/)
  })
})

describe('after the first piece', () => {
  it.each<[string, Answer, object, RegExp]>([
    [
      'a broken connection',
      { ...sse(delta('a')), ends: 'cut' },
      { code: 'unavailable', reason: 'unreachable' },
      /reached/,
    ],
    ['an end in the middle', sse(delta('a')), { code: 'provider_error', reason: 'bad_answer' }, /in the middle/],
    ['silence', { ...sse(delta('a')), ends: 'hang' }, { code: 'provider_timeout' }, /sent nothing for 0\.05 s/],
    ['garbage', sse(delta('a'), 'data: {"choices":\n\n'), { reason: 'bad_answer' }, /not a completion/],
    [
      'an error',
      sse(delta('a'), `data: {"error":{"message":"Key ${KEY} ran out","code":"insufficient_quota"}}\n\n`),
      { code: 'provider_error', reason: 'quota' },
      /no credit left.*: Key \[key\] ran out$/,
    ],
  ])('%s is told, and nothing is tried again', async (what, answer, expected, text) => {
    const { wire, provider } = await start('openai', [answer], {
      retries: 3,
      ...(what === 'silence' && { idleMs: 50 }),
    })
    const texts: string[] = []
    const error = await failure(collect(provider.stream(ask(), never), texts))
    expect(error).toMatchObject(expected)
    expect(error.message).toMatch(text)
    expect(texts).toEqual(['a'])
    expect(wire.received).toHaveLength(1)
  })

  it('Anthropic overloaded is told', async () => {
    const begun = ANTHROPIC.slice(0, ANTHROPIC.indexOf('event: message_delta'))
    const error = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    const { wire, provider } = await start('anthropic', [sse(begun, error)], { retries: 3 })
    const told = await failure(collect(provider.stream(ask(), never)))
    expect(told).toMatchObject({ code: 'unavailable', reason: 'overloaded' })
    expect(wire.received).toHaveLength(1)
  })

  it('comments keep a slow stream alive', async () => {
    const pauses = Array.from({ length: 12 }, () => [': still here\n\n', 150]).flat()
    const { provider } = await start('openai', [sse(delta('a'), ...pauses, delta('b'), END)], { idleMs: 1500 })
    expect((await collect(provider.stream(ask(), never))).texts).toEqual(['a', 'b'])
  })

  it('tokens are counted by the pieces where no usage is told', async () => {
    const { provider } = await start('together', [sse(delta('a'), delta('b'), END)])
    const { output } = await collect(provider.stream(ask(), never))
    expect(output).toMatchObject({ tokensGenerated: 2, promptTokens: null })
  })

  it('what a filter cut off is told', async () => {
    const cut = '{"model":"m","choices":[{"index":0,"delta":{"refusal":"I can\'t"},"finish_reason":"content_filter"}]}'
    const { provider } = await start('openai', [sse(`data: ${cut}\n\n`)])
    const { texts, output } = await collect(provider.stream(ask(), never))
    expect([texts, output.finishReason]).toEqual([["I can't"], 'content_filter'])
  })
})

describe('too much', () => {
  it.each([
    ['a line', true, ['data: ', 'x'.repeat(1_100_000)], /a line of more than 1048576 bytes/],
    ['a stream', true, Array.from({ length: 200 }, () => delta('x'.repeat(100))), /more than 10000 bytes/],
    ['an answer', false, [`{"text":"${'x'.repeat(20_000)}"}`], /more than 10000 bytes/],
  ])('%s is given up', async (what, streamed, parts, text) => {
    const answer = streamed ? sse(...parts) : { parts }
    const { wire, provider } = await start('openai', [answer], what === 'a line' ? {} : { maxBytes: 10_000 })
    const run = streamed ? collect(provider.stream(ask(), never)) : provider.generate(ask(), never)
    const error = await failure(run)
    expect(error).toMatchObject({ code: 'provider_error', reason: 'bad_answer' })
    expect(error.message).toMatch(text)
    expect(wire.received).toHaveLength(1)
  })

  it('of an error only the beginning is read', async () => {
    const { provider } = await start('openai', [{ status: 500, parts: ['x'.repeat(60_000), 'y'.repeat(60_000)] }])
    expect(await failure(provider.generate(ask(), never))).toMatchObject({ reason: 'failed' })
  })
})

describe('who leaves', () => {
  it.each(HOSTED)('ends the request at %s', async (name) => {
    const begin =
      name === 'anthropic'
        ? ANTHROPIC.slice(0, ANTHROPIC.indexOf('event: content_block_delta', ANTHROPIC.indexOf('"Hello"')))
        : delta('a')
    const answer: Answer = { ...sse(begin), ends: 'hang' }
    const { wire, provider } = await start(name, [answer, answer])
    const byReturn = provider.stream(ask(), never)
    await byReturn.next()
    await byReturn.return(undefined as never)
    await vi.waitFor(() => expect(wire.left).toBe(1))
    const client = new AbortController()
    const bySignal = provider.stream(ask(), client.signal)
    await bySignal.next()
    const next = failure(bySignal.next())
    client.abort()
    expect(await next).toMatchObject({ code: 'timeout' })
    await vi.waitFor(() => expect(wire.left).toBe(2))
  })

  it('is not waited for between two tries', async () => {
    const { provider } = await start('openai', [busy({ 'retry-after': '4' })], { retries: 1 })
    const client = new AbortController()
    const answer = failure(provider.generate(ask(), client.signal))
    await sleep(50)
    client.abort()
    expect(await answer).toMatchObject({ code: 'timeout' })
  })
})

describe('keys', () => {
  it.each(HOSTED.flatMap((name) => [302, 307, 308].map((status) => [name, status] as const)))(
    '%s with a %i: neither key nor prompt goes elsewhere',
    async (name, status) => {
      const elsewhere = await Wire.start()
      started.push(elsewhere)
      const redirect = { status, headers: { location: `${elsewhere.url}/v1/messages` } }
      const { wire, provider } = await start(name, [redirect, redirect], { retries: 2 })
      for (const run of [provider.generate(ask(), never), collect(provider.stream(ask(), never))])
        expect(await failure(run)).toMatchObject({ code: 'unavailable', reason: 'redirect' })
      expect(wire.received).toHaveLength(2)
      expect(elsewhere.received).toEqual([])
    },
  )

  // What echoes the key, whole, in part or shortened, in a body of any shape. Ollama gets none.
  it.each(['openai', 'anthropic', 'together'] as const)('of %s are in no error, whatever it echoes', async (name) => {
    const bodies = [
      JSON.stringify({ error: { message: `Bad key ${KEY}, ${KEY.slice(0, 20)} or ${KEY.slice(-12)}`, type: KEY } }),
      JSON.stringify({ error: `Authorization: Bearer ${KEY}` }),
      JSON.stringify({ message: 'Key sk-proj-********7890 ending in 7890' }),
      `<html>${KEY}</html>`,
      '',
    ]
    const answers = [400, 401, 403, 404, 418, 429, 500].flatMap((status) =>
      bodies.map((body) => ({ status, parts: [body] })),
    )
    const { wire, provider } = await start(name, answers)
    for (const _ of answers) await failure(provider.generate(ask(), never))
    wire.answers = [...answers]
    for (const _ of answers) await failure(collect(provider.stream(ask(), never)))
    expect(wire.received).toHaveLength(2 * answers.length)
  })

  it('come from the configuration, not from variables of the SDKs', async () => {
    const before = { ...process.env }
    try {
      for (const prefix of ['OPENAI', 'ANTHROPIC'])
        process.env[`${prefix}_CUSTOM_HEADERS`] = 'Authorization: Bearer other\nX-Api-Key: other\nX-Other: 1'
      process.env.ANTHROPIC_AUTH_TOKEN = 'other'
      process.env.OPENAI_ORG_ID = 'other'
      for (const name of HOSTED) {
        const { wire, provider } = await start(name, [{ status: 400 }])
        await failure(provider.generate(ask(), never))
        const { headers } = wire.received[0] ?? {}
        expect(headers?.authorization).toBe(name === 'ollama' ? 'Bearer ollama' : `Bearer ${KEY}`)
        expect(JSON.stringify(headers)).not.toMatch(/other/)
        expect(headers).not.toHaveProperty('x-other')
      }
    } finally {
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
    }
  })
})

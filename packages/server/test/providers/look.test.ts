import { afterEach, describe, expect, it } from 'vitest'
import { baseOf, HOSTED, type Hosted, hosted, KEY } from './setup.ts'
import { type Answer, Wire } from './wire.ts'

const started: Wire[] = []
afterEach(async () => {
  for (const wire of started.splice(0)) await wire.stop()
})

async function start(name: Hosted, answers: Answer[], options: Parameters<typeof hosted>[2] = {}) {
  const wire = await Wire.start(...answers)
  started.push(wire)
  return { wire, providers: hosted(name, baseOf(name, wire.url), options), name }
}

type Started = Awaited<ReturnType<typeof start>>

/** Asks until it is known, as who polls GET /providers. */
async function known({ providers, name }: Started) {
  const look = () => providers.get(name).availability()
  await expect.poll(() => look().checkedAt, { interval: 5 }).not.toBeNull()
  return look()
}

const list = (...ids: unknown[]): Answer => ({
  parts: [JSON.stringify({ object: 'list', data: ids.map((id) => ({ id })) })],
})

describe('a provider that has not been asked', () => {
  it.each(HOSTED)('%s answers at once with what the configuration says', async (name) => {
    const { wire, providers } = await start(name, [{ ends: 'hang' }])
    const first = providers.get(name).availability()
    expect(first).toMatchObject({ available: name !== 'ollama', state: 'unchecked', checkedAt: null })
    expect(providers.get(name).availability()).toEqual(first)
    await expect.poll(() => wire.received.length).toBe(1)
  })

  it('is never asked without a key', async () => {
    const wire = await Wire.start()
    started.push(wire)
    const providers = hosted('openai', `${wire.url}/v1`, { env: { OPENAI_API_KEY: '' } })
    expect(providers.get('openai').availability()).toEqual({
      available: false,
      state: 'no_key',
      reason: 'set OPENAI_API_KEY',
      checkedAt: null,
    })
    expect(wire.received).toEqual([])
  })
})

describe('a provider that was asked', () => {
  it.each<[Hosted, string, Answer, string[]]>([
    ['openai', '/v1/models', list('gpt-4.1', 'ft:gpt-4.1-mini:org::x1'), ['ft:gpt-4.1-mini:org::x1', 'gpt-4.1']],
    [
      'anthropic',
      '/v1/models?limit=1000',
      {
        parts: [
          '{"data":[{"type":"model","id":"claude-opus-4-7","display_name":"Claude Opus 4.7","created_at":"2026-02-19T00:00:00Z"}],',
          '"has_more":false,"first_id":"claude-opus-4-7","last_id":"claude-opus-4-7"}',
        ],
      },
      ['claude-opus-4-7'],
    ],
    [
      'together',
      '/v1/models',
      { parts: ['[{"id":"acme/chat","type":"chat"},{"id":"acme/pictures","type":"image"}]'] },
      ['acme/chat'],
    ],
    ['ollama', '/v1/models', list('llama3.2:latest'), ['llama3.2:latest']],
  ])('%s tells its models', async (name, path, answer, models) => {
    const started = await start(name, [answer])
    expect(await known(started)).toEqual({
      available: true,
      state: 'available',
      checkedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      models,
    })
    expect(started.wire.received).toMatchObject([{ method: 'GET', path }])
    const listed = started.providers.list().current_provider.available_providers
    expect(listed[HOSTED.indexOf(name)]).toMatchObject({ available: true, state: 'available', models })
  })

  it.each<[string, Answer, object]>([
    [
      'a bad key',
      { status: 401, parts: [`{"error":{"message":"Incorrect API key provided: ${KEY}"}}`] },
      { available: false, state: 'bad_key', reason: expect.stringMatching(/OPENAI_API_KEY.*\[key\]$/) },
    ],
    ['a break', { ends: 'cut' }, { available: false, state: 'unreachable', reason: expect.stringMatching(/reached/) }],
    ['a server down', { status: 503 }, { available: false, state: 'unreachable' }],
    ['a redirect', { status: 307, headers: { location: 'http://127.0.0.1:9' } }, { state: 'unreachable' }],
    ['silence', { ends: 'hang' }, { state: 'unreachable', reason: expect.stringMatching(/0\.1 s$/) }],
    ['no such list', { status: 404 }, { available: true, state: 'available' }],
    ['a busy one', { status: 429 }, { available: true, state: 'available' }],
    ['something else', { parts: ['<html>'] }, { available: true, state: 'available' }],
  ])('with %s', async (what, answer, expected) => {
    const look = await known(await start('openai', [answer], what === 'silence' ? { look: { timeoutMs: 100 } } : {}))
    expect(look).toMatchObject(expected)
    expect(JSON.stringify(look)).not.toContain('abcdefgh')
  })

  it('Ollama that is not there says what to do', async () => {
    const gone = await start('ollama', [])
    await gone.wire.stop()
    started.pop()
    expect(await known(gone)).toMatchObject({
      state: 'unreachable',
      reason: expect.stringMatching(
        /^ollama can't be reached at 127\.0\.0\.1:\d+ \(ECONNREFUSED\): start it, or set OLLAMA_HOST$/,
      ),
    })
  })

  it('is asked once for all', async () => {
    const one = await start('openai', [list('a')])
    expect(await known(one)).toMatchObject({ models: ['a'] })
    for (let i = 0; i < 100; i++) one.providers.list()
    expect(one.wire.received).toHaveLength(1)
  })

  it('is asked again in the background when that is old', async () => {
    const one = await start('openai', [list('a'), list('b')], { look: { keptMs: 30 } })
    const look = () => one.providers.get('openai').availability().models
    await expect.poll(look, { interval: 20 }).toEqual(['b'])
    expect(one.wire.received.length).toBeGreaterThanOrEqual(2)
  })

  it('tells no more than 500 models, and none with an odd name', async () => {
    const names = Array.from({ length: 600 }, (_, i) => `model-${i}`)
    const { models = [] } = await known(
      await start('openai', [list(7, null, 'a\nb', '<b>', 'x'.repeat(300), KEY, ...names)]),
    )
    expect(models).toHaveLength(500)
    expect(models.every((name) => /^(model-\d+|\[key\])$/.test(name))).toBe(true)
  })

  it('keeps its models to itself where everything asks for a key', async () => {
    const one = await start('openai', [list('ft:gpt-4.1:secret-org::1')], {
      env: { MLX_TRAINING_REQUIRE_AUTH: 'true' },
    })
    expect(await known(one)).toMatchObject({ models: ['ft:gpt-4.1:secret-org::1'] })
    expect(JSON.stringify(one.providers.list())).not.toContain('secret-org')
  })
})

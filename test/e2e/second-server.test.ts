import { join } from 'node:path'
import type { GenerateEnd, GeneratePiece, GenerateResponse, ProvidersResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KEY, makeTinyModel, Server, workFolder } from './support.ts'

// Real servers behind the hosted providers: another instance of this service by its /v1, and, where
// MLX_TRAINING_TEST_OPENAI_SERVER names one (http://127.0.0.1:8000, without /v1), llama.cpp's or any other that speaks OpenAI's API:
//   python -m llama_cpp.server --model SmolLM2-135M-Instruct.Q4_1.gguf
//   python -m mlx_lm server --model .models/SmolLM2-135M-Instruct --port 8000   (its first model is called default_model)
const OTHER = process.env.MLX_TRAINING_TEST_OPENAI_SERVER?.replace(/\/+$/, '')
const OTHER_MODEL = process.env.MLX_TRAINING_TEST_OPENAI_MODEL

const folder = workFolder()
const servers: Server[] = []
async function start(name: string, env: Record<string, string>): Promise<Server> {
  const roots = { MLX_TRAINING_HOME: join(folder.path, name), OPENAI_API_KEY: '', TOGETHER_API_KEY: '' }
  const server = await Server.start(folder.path, { ...roots, ...env })
  servers.push(server)
  return server
}
afterAll(async () => {
  for (const server of servers.reverse()) await server.stop()
  folder.remove()
}, 60_000)

/** Pieces and end of a streamed answer; fails on an error event. */
async function streamed(server: Server, body: object): Promise<{ texts: string[]; end: GenerateEnd }> {
  const response = await fetch(`${server.url}/generate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true }),
  })
  const text = await response.text()
  expect(response.status, text).toBe(200)
  expect(text).not.toMatch(/^event: error/m)
  const data = [...text.matchAll(/^data: (.*)$/gm)].map(([, json]) => JSON.parse(json ?? ''))
  return { end: data.pop(), texts: data.map((piece: GeneratePiece) => piece.text) }
}

async function plain(server: Server, body: object): Promise<GenerateResponse> {
  const answer = await server.request<GenerateResponse>('POST', '/generate', body)
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  return answer.body
}

async function listed(server: Server, name: string) {
  const { body } = await server.request<ProvidersResponse>('GET', '/providers')
  return body.current_provider.available_providers.find((provider) => provider.name === name)
}

describe('another instance of this service', () => {
  const model = './tiny'
  let first: Server
  let second: Server
  beforeAll(async () => {
    makeTinyModel(join(folder.path, 'tiny'))
    first = await start('first', {})
    second = await start('second', {
      OPENAI_API_KEY: KEY,
      OPENAI_BASE_URL: `${first.url}/v1`,
      TOGETHER_API_KEY: 'sk-not-the-key',
      TOGETHER_BASE_URL: `${first.url}/v1`,
    })
  }, 60_000)

  test('answers as openai what it answers itself, in one piece and streamed', async () => {
    const request = { prompt: 'Hello', max_tokens: 12, temperature: 0 }
    const own = await plain(first, { ...request, model })
    const hosted = await plain(second, { ...request, model: `openai/${model}` })
    expect(hosted).toMatchObject({
      provider: 'OpenAIProvider',
      text: own.text,
      tokens_generated: own.tokens_generated,
      prompt_tokens: own.prompt_tokens,
      finish_reason: own.finish_reason,
    })
    const { texts, end } = await streamed(second, { ...request, model: `openai/${model}` })
    expect(texts.join('')).toBe(own.text)
    expect(end.usage).toMatchObject({ prompt_tokens: own.prompt_tokens, completion_tokens: own.tokens_generated })
    const raw = { prompt: 'Once upon', max_tokens: 12, temperature: 0, raw: true }
    expect((await plain(second, { ...raw, model: `openai/${model}` })).text).toBe(
      (await plain(first, { ...raw, model })).text,
    )
  }, 120_000)

  test('is listed, and its refusals are told with their kind', async () => {
    await expect.poll(() => listed(second, 'OpenAIProvider'), { timeout: 30_000 }).toMatchObject({ state: 'available' })
    const wrong = await second.request('POST', '/generate', { prompt: 'x', model: 'openai/nowhere' })
    expect(wrong).toMatchObject({ status: 404, body: { reason: 'model_not_found' } })
    const refused = await second.request('POST', '/generate', { prompt: 'x', model: `together/${model}` })
    expect(refused).toMatchObject({ status: 502, body: { reason: 'bad_key' } })
    await expect.poll(() => listed(second, 'TogetherProvider'), { timeout: 30_000 }).toMatchObject({ state: 'bad_key' })
    expect(JSON.stringify([refused, second.output])).not.toContain('not-the-key')
  }, 60_000)
})

describe.skipIf(!OTHER)('a server named by MLX_TRAINING_TEST_OPENAI_SERVER', () => {
  let server: Server
  beforeAll(async () => {
    server = await start('third', {
      OPENAI_API_KEY: 'any',
      OPENAI_BASE_URL: `${OTHER}/v1`,
      TOGETHER_API_KEY: 'any',
      TOGETHER_BASE_URL: `${OTHER}/v1`,
      OLLAMA_BASE_URL: `${OTHER}`,
    })
  }, 60_000)

  test.each([
    ['openai', 'OpenAIProvider'],
    ['together', 'TogetherProvider'],
    ['ollama', 'OllamaProvider'],
  ])(
    'answers as %s, in one piece and streamed, and lists its models',
    async (provider, name) => {
      await expect.poll(() => listed(server, name), { timeout: 30_000 }).toMatchObject({ state: 'available' })
      const model = OTHER_MODEL ?? (await listed(server, name))?.models?.[0]
      const request = { provider, model, prompt: 'Name three colours.', max_tokens: 8, temperature: 0, seed: 1 }
      const whole = await plain(server, request)
      expect(whole).toMatchObject({ provider: name, finish_reason: expect.stringMatching(/stop|length/) })
      expect(whole.text.length).toBeGreaterThan(0)
      expect(whole.tokens_generated).toBeGreaterThan(0)
      expect(whole.tokens_generated).toBeLessThanOrEqual(request.max_tokens) // it was asked in words that it knows
      expect(whole.prompt_tokens).toBeGreaterThan(0)
      const { texts, end } = await streamed(server, request)
      expect(texts.length).toBeGreaterThan(1)
      expect(texts.join('')).toBe(whole.text)
      expect(end.usage.completion_tokens).toBeGreaterThan(0)
    },
    300_000,
  )
})

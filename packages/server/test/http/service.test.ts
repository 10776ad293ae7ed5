import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let bare: Service
beforeAll(async () => {
  service = await createService({ engine: 'echo', env: { OPENAI_API_KEY: 'sk-test' } })
  bare = await createService()
  await putModel(join(service.folder, 'bundled', 'SmolLM2-135M-Instruct'))
  await putModel(join(service.folder, 'tiny'))
  await service.engine.ready()
  await bare.engine.ready()
})
afterAll(async () => {
  await service.close()
  await bare.close()
})

describe('health', () => {
  test('healthy with an engine', async () => {
    const { status, body } = await service.call('GET', '/health', undefined, {})
    expect(status).toBe(200)
    expect(contractErrors('health', body)).toEqual([])
    expect(body).toMatchObject({
      status: 'healthy',
      version: '1.0.0',
      service: 'mlx-distributed-training',
      features: {
        lora: true,
        qlora: true,
        dataset_formats: ['alpaca', 'sharegpt'],
        other_dataset_formats: ['openai', 'prompt_completion', 'text'],
        providers: ['openai', 'anthropic', 'together', 'ollama', 'local_mlx'],
        distributed: true,
      },
      active_jobs: 0,
      engine: { state: 'ready', device: 'cpu', gflops: 200 },
      max_concurrent_jobs: 1,
    })
    expect(Date.parse(body.started_at)).toBeLessThan(Date.parse(body.timestamp))
    expect(body.memory.available_mb).toBeGreaterThan(0)
    expect(body.memory.total_mb).toBeGreaterThan(body.memory.available_mb)
  })

  test('degraded without one, with the reason; everything else is served', async () => {
    const { body } = await bare.call('GET', '/health', undefined, {})
    expect(contractErrors('health', body)).toEqual([])
    expect(body).toMatchObject({ status: 'degraded', engine: { state: 'unavailable' } })
    expect(body.engine.reason).toMatch(/npm run setup/)
    expect((await bare.call('GET', '/train')).status).toBe(200)
    expect((await bare.call('GET', '/models')).status).toBe(200)
    expect((await bare.call('GET', '/docs')).status).toBe(200)
  })
})

test('providers: names and order of the API reference, with what is missing', async () => {
  const { body } = await service.call('GET', '/providers', undefined, {})
  expect(contractErrors('providers', body)).toEqual([])
  expect(body.available_providers).toEqual(['openai', 'anthropic', 'together', 'ollama', 'local_mlx'])
  expect(body.current_provider.active_provider).toBe('LocalMLXProvider')
  const listed = body.current_provider.available_providers
  expect(listed.map(({ name }: { name: string }) => name)).toEqual([
    'OpenAIProvider',
    'AnthropicProvider',
    'TogetherProvider',
    'OllamaProvider',
    'LocalMLXProvider',
  ])
  expect(listed[0]).toMatchObject({ available: true })
  expect(listed[1]).toMatchObject({ available: false, reason: expect.stringContaining('ANTHROPIC_API_KEY') })
  expect(listed[4]).toMatchObject({ available: true })
})

test('datasets/validate: a good file, one that is not there, one outside the roots', async () => {
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(3)))
  const validate = (file_path: string) => service.call('POST', '/datasets/validate', { file_path }, {})
  const { status, body } = await validate('data.json')
  expect(status).toBe(200)
  expect(contractErrors('datasetsValidate', body)).toEqual([])
  expect(body).toMatchObject({ valid: true, format: 'alpaca', total_samples: 3, sample_preview: alpacaRows(1)[0] })
  expect((await validate('none.json')).status).toBe(404)
  expect((await validate('/etc/passwd')).status).toBe(403)
  expect((await validate('.')).status).toBe(400)
})

test('models: bundled ones and those that jobs made', async () => {
  const { body } = await service.call('GET', '/models', undefined, {})
  expect(contractErrors('models', body)).toEqual([])
  expect(body.models).toEqual([
    expect.objectContaining({ id: 'SmolLM2-135M-Instruct', source: 'bundled', architecture: 'llama' }),
  ])
})

describe('generate', () => {
  const generate = async (body: object, headers = {}) => {
    const answer = await service.call('POST', '/generate', body, headers)
    if (answer.status === 200) expect(contractErrors('generate', answer.body)).toEqual([])
    return answer
  }

  test('a prompt is a user turn, for the bundled model when none is named', async () => {
    const { status, body } = await generate({ prompt: 'Hi', max_tokens: 7 })
    expect(status, JSON.stringify(body)).toBe(200)
    expect(body).toMatchObject({
      text: 'echo user: Hi',
      model: 'SmolLM2-135M-Instruct',
      provider: 'LocalMLXProvider',
      tokens_generated: 7,
      finish_reason: 'stop',
    })
    expect(body.generation_time_ms).toBeGreaterThanOrEqual(0)
  })

  test('the model is echoed as it was asked for', async () => {
    expect((await generate({ prompt: 'Hi', model: 'local_mlx/./tiny' })).body.model).toBe('local_mlx/./tiny')
    expect((await generate({ prompt: 'Hi', model: './tiny', provider: 'local_mlx' })).body.model).toBe('./tiny')
  })

  test('system, messages, raw', async () => {
    expect((await generate({ prompt: 'Hi', system: 'Be brief' })).body.text).toBe('echo system: Be brief\nuser: Hi')
    const messages = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
      { role: 'user', content: 'c' },
    ]
    expect((await generate({ messages })).body.text).toBe('echo user: a\nassistant: b\nuser: c')
    expect((await generate({ prompt: 'Once upon', raw: true })).body.text).toBe('echo Once upon')
  })

  test.each([
    [{}, 'prompt'],
    [{ prompt: 'a', messages: [{ role: 'user', content: 'b' }] }, 'messages'],
    [{ messages: [{ role: 'user', content: 'b' }], system: 's' }, 'system'],
    [{ messages: [{ role: 'user', content: 'b' }], raw: true }, 'raw'],
    [{ prompt: 'a', system: 's', raw: true }, 'raw'],
  ])('%j is refused at %s', async (body, field) => {
    const { status, body: error } = await generate(body)
    expect(status).toBe(422)
    expect(error.errors[0].field).toBe(field)
  })

  test('a provider without its key, a model without its name, a model that is not there', async () => {
    const unset = await generate({ prompt: 'a', model: 'anthropic/claude' })
    expect(unset.status).toBe(503)
    expect(unset.body.detail).toContain('ANTHROPIC_API_KEY')
    expect((await generate({ prompt: 'a', provider: 'openai' })).status).toBe(400)
    expect((await generate({ prompt: 'a', model: 'fine-tuned/nothing' })).status).toBe(404)
    expect((await generate({ prompt: 'a', model: './nothing' })).status).toBe(404)
    expect((await bare.call('POST', '/generate', { prompt: 'a' })).status).toBe(404)
  })

  test('closing the server ends a generation that is under way', async () => {
    const closing = await createService({ engine: 'echo' })
    await putModel(join(closing.folder, 'tiny'))
    const answer = closing.call('POST', '/generate', { prompt: 'wait', model: './tiny' })
    // The request is in the engine once its process has started; closing any earlier must end it as well.
    await new Promise((resume) => setTimeout(resume, 200))
    await closing.close()
    expect(await answer).toMatchObject({ status: 503, body: { detail: expect.stringContaining('shutting down') } })
  })
})

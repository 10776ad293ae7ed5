import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { GenerateResponse, ModelsResponse, ValidateResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ALPACA, MODEL, PYTHON, ROOT, Server, SHAREGPT, workFolder } from './support.ts'

// The main job on the real model, SmolLM2-135M-Instruct, with the project's own data.
const folder = workFolder()
let server: Server

beforeAll(async () => {
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

const start = (name: string, options: Record<string, unknown> = {}) =>
  server.request('POST', '/train/start', {
    experiment_name: name,
    model_name: MODEL,
    learning_rate: 1e-3,
    max_steps: 3,
    lora: { use_lora: true, lora_r: 8, lora_alpha: 16 },
    dataset: { dataset_path: ALPACA, batch_size: 4, max_seq_length: 128 },
    ...options,
  })

const ask = async (model: string, options: Record<string, unknown> = {}) => {
  const answer = await server.request<GenerateResponse>('POST', '/generate', {
    prompt: 'What is the capital of France?',
    model,
    max_tokens: 24,
    temperature: 0,
    ...options,
  })
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  return answer.body
}

test('the engine is ready and says what it works with', async () => {
  await expect
    .poll(async () => (await server.request('GET', '/health')).body, {
      timeout: 60_000,
    })
    .toMatchObject({
      status: 'healthy',
      engine: {
        state: 'ready',
        dtype: expect.any(String),
        gflops: expect.any(Number),
      },
    })
})

test('both bundled data sets are valid, without a warning', async () => {
  for (const [path, format] of [
    [ALPACA, 'alpaca'],
    [SHAREGPT, 'sharegpt'],
  ]) {
    const { body } = await server.request<ValidateResponse>('POST', '/datasets/validate', { file_path: path })
    expect(body).toMatchObject({
      valid: true,
      format,
      errors: [],
      warnings: [],
    })
  }
})

test('the base model answers, greedily the same each time, and a seed repeats a sample', async () => {
  const first = await ask(MODEL)
  expect(first.text).toContain('Paris')
  expect(first).toMatchObject({
    provider: 'LocalMLXProvider',
    model: MODEL,
    finish_reason: expect.any(String),
  })
  expect((await ask(MODEL)).text).toBe(first.text)
  const sampled = { temperature: 1.2, seed: 7, prompt: 'Tell me a story.' }
  expect((await ask(MODEL, sampled)).text).toBe((await ask(MODEL, sampled)).text)
  expect((await ask(MODEL, { stop: 'Paris' })).text).not.toContain('Paris')
}, 90_000)

describe('LoRA', () => {
  test('trains, and tells every step with the true parameter count', async () => {
    expect(await start('lora')).toMatchObject({ status: 200 })
    const events = await server.events('lora')
    expect(events.map((event) => event.id)).toEqual(events.map((_, index) => index + 1))
    expect(events.filter((event) => event.type === 'step').map((event) => event.data.step)).toEqual([1, 2, 3])
    expect(events.at(-1)).toMatchObject({
      type: 'end',
      data: { state: 'completed' },
    })
    const status = await server.status('lora')
    expect(status.lora_details).toMatchObject({
      total_params: 134_515_008,
      trainable_params: 921_600,
      trainable_percentage: 0.69,
    })
    expect(status.metrics.loss).toBeGreaterThan(0)
    expect(status.dataset_details.processed_samples).toBe(12)
  }, 180_000)

  test('the events after a given one are replayed without a gap', async () => {
    const all = await server.events('lora')
    expect(await server.events('lora', 4)).toEqual(all.slice(4))
  })

  test('the adapter changes the answer, the base beside it stays as it was', async () => {
    const base = await ask(MODEL, {
      prompt: 'Which port does the service listen on?',
    })
    const tuned = await ask('fine-tuned/lora', {
      prompt: 'Which port does the service listen on?',
    })
    expect(tuned.text).not.toBe(base.text)
    expect((await ask(MODEL, { prompt: 'Which port does the service listen on?' })).text).toBe(base.text)
    expect(
      (
        await ask('fine-tuned/lora@step-3', {
          prompt: 'Which port does the service listen on?',
        })
      ).text,
    ).toBe(tuned.text)
  }, 90_000)

  test("mlx-lm's own command line loads the adapter", () => {
    const output = execFileSync(
      PYTHON,
      [
        '-m',
        'mlx_lm.generate',
        '--model',
        join(ROOT, '.models', MODEL),
        '--adapter-path',
        join(folder.path, 'outputs', 'lora'),
        '--prompt',
        'Hi',
        '--max-tokens',
        '2',
        '--temp',
        '0',
      ],
      {
        encoding: 'utf8',
        env: { ...process.env, HF_HUB_OFFLINE: '1' },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    expect(output).toContain('Generation: 2 tokens')
  }, 120_000)

  test('is listed among the models with its checkpoints', async () => {
    const { body } = await server.request<ModelsResponse>('GET', '/models')
    expect(body.models).toContainEqual(
      expect.objectContaining({
        id: MODEL,
        source: 'bundled',
        architecture: 'llama',
      }),
    )
    expect(body.models).toContainEqual(
      expect.objectContaining({
        id: 'fine-tuned/lora',
        source: 'fine_tuned',
        base_model: MODEL,
        serving_verified: true,
        checkpoints: ['fine-tuned/lora@step-3'],
      }),
    )
  })

  test('the name is taken until overwrite says otherwise', async () => {
    expect(await start('lora')).toMatchObject({
      status: 409,
      body: { error_type: 'ConflictError' },
    })
    expect(await start('lora', { overwrite: true, max_steps: 1 })).toMatchObject({ status: 200 })
    expect(await server.until('lora', ({ status }) => status === 'completed')).toMatchObject({
      progress: { current_step: 1 },
    })
  }, 120_000)
})

test('QLoRA trains over the 4-bit base and counts its parameters as values', async () => {
  expect(
    await start('qlora', {
      max_steps: 1,
      lora: { use_lora: true, use_qlora: true, lora_r: 4, lora_alpha: 8 },
    }),
  ).toMatchObject({ status: 200 })
  const status = await server.until('qlora', (now) => now.status === 'completed', 240)
  expect(status.lora_details).toMatchObject({
    enabled: true,
    rank: 4,
    trainable_params: 460_800,
    total_params: 134_515_008,
  })
  expect((await ask('fine-tuned/qlora')).text.length).toBeGreaterThan(0)
}, 300_000)

test('full fine-tuning of a 4-bit base is refused with what to do instead', async () => {
  const { status, body } = await start('full', { lora: { use_lora: false } })
  expect(status).toBe(400)
  expect(body.detail).toMatch(/use_lora|use_qlora/)
})

test('ShareGPT talks train as well', async () => {
  expect(
    await start('talks', {
      max_steps: 2,
      dataset: { dataset_path: SHAREGPT, batch_size: 2, max_seq_length: 256 },
    }),
  ).toMatchObject({
    status: 200,
    body: { dataset_info: { format: 'sharegpt' } },
  })
  await server.until('talks', (now) => now.status === 'completed', 180)
}, 240_000)

test('nothing of the engine is left behind', async () => {
  expect(await server.stop()).toBe(0)
  expect(existsSync(join(folder.path, 'home'))).toBe(true)
  const alive = execFileSync('ps', ['-eo', 'ppid=,args='], {
    encoding: 'utf8',
  }).split('\n')
  expect(alive.filter((line) => line.trim().startsWith(`${server.process.pid} `))).toEqual([])
}, 40_000)

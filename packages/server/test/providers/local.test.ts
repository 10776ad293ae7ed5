import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type EngineHealth, ServiceError } from '@mlx-training/contract'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Engine } from '../../src/engine/port.ts'
import type { Job } from '../../src/jobs/port.ts'
import { listFineTuned } from '../../src/models/fine-tuned.ts'
import { createProviders, type Providers } from '../../src/providers/index.ts'
import { queuedJob } from '../jobs/jobs.ts'
import { modelFiles, safetensors } from '../models/hub-server.ts'
import { createWorld, removeWorlds, type World } from '../models/setup.ts'
import { ask, never } from './setup.ts'

const ADAPTER = { 'adapters.safetensors': safetensors(4), 'adapter_config.json': '{}' }
const READY: EngineHealth = {
  state: 'ready',
  reason: null,
  device: 'cpu',
  backend: null,
  dtype: null,
  gflops: null,
  kernels: null,
  mlx_version: null,
  mlx_lm_version: null,
}

describe('local_mlx', () => {
  let world: World
  let base: string
  let jobs: Job[]
  let health: EngineHealth
  let asked: Parameters<Engine['generate']>[0][]
  let providers: Providers

  beforeEach(async () => {
    world = await createWorld({ offline: true })
    base = await world.put('bundled/SmolLM2-135M-Instruct', modelFiles())
    jobs = []
    health = READY
    asked = []
    providers = createProviders({
      config: world.config,
      models: world.models,
      jobs: { get: async (name) => jobs.find((job) => job.name === name) ?? null },
      // The engine is another process: this one only notes what it is asked.
      engine: {
        health: () => health,
        generate: async (command, { signal }) => {
          asked.push(command)
          if (command.prompt === 'wait')
            await new Promise((resolve) => signal?.addEventListener('abort', resolve, { once: true }))
          const choice = {
            text: 'Hi',
            finish_reason: signal?.aborted ? ('cancelled' as const) : ('length' as const),
            completion_tokens: 1,
          }
          return {
            type: 'done',
            id: 'g1',
            ...choice,
            prompt_tokens: 3,
            cached_tokens: 0,
            choices: [choice],
            timing: { queue_seconds: 0, prefill_seconds: 0, decode_seconds: 0 },
          }
        },
      },
    })
  })
  afterEach(removeWorlds)

  const generate = (model: string) => providers.get('local_mlx').generate(ask({ model }), never)

  async function job(change: Partial<Job>, steps: number[] = [], saved: Record<string, Buffer | string> = ADAPTER) {
    const checkpoints = await Promise.all(
      steps.map(async (step) => ({
        step,
        loss: 1,
        validation_loss: null,
        best: false,
        created_at: '2026-01-01T00:00:00Z',
        path: await world.put(`outputs/x/checkpoints/step-${String(step).padStart(8, '0')}`, saved),
      })),
    )
    const queued = queuedJob('x')
    const made: Job = {
      ...queued,
      plan: {
        ...queued.plan,
        model: { kind: 'folder', name: 'SmolLM2-135M-Instruct', path: base },
        outputDir: join(world.root, 'outputs/x'),
      },
      progress: { ...queued.progress, checkpoints },
      ...change,
    }
    jobs.push(made)
    return made
  }

  it('generates from a base model', async () => {
    expect(await generate('smollm2-135m-instruct')).toEqual({
      text: 'Hi',
      model: 'smollm2-135m-instruct',
      tokensGenerated: 1,
      promptTokens: 3,
      finishReason: 'length',
      cachedTokens: 0,
      timing: { queue_seconds: 0, prefill_seconds: 0, decode_seconds: 0 },
      choices: [{ text: 'Hi', finishReason: 'length' }],
    })
    expect(asked).toEqual([
      {
        model_path: base,
        adapter_path: null,
        messages: [{ role: 'user', content: 'Hello!' }],
        prompt: null,
        max_tokens: 100,
        temperature: 0.7,
        top_p: 0.9,
        stop: [],
        seed: null,
      },
    ])
    await expect(generate('SmolLM9')).rejects.toMatchObject({ code: 'not_found' })
  })

  it('asks the engine for the schema that the answer is to keep to', async () => {
    const schema = { type: 'array' }
    const formats = [{ type: 'json_schema', json_schema: { name: 'x', schema } }, { type: 'json_object' }] as const
    for (const response_format of formats)
      await providers
        .get('local_mlx')
        .generate(ask({ model: 'SmolLM2-135M-Instruct', extra: { response_format } }), never)
    expect(asked.map(({ json_schema }) => json_schema)).toEqual([schema, { type: 'object' }])
    expect(asked[0]).not.toHaveProperty('response_format')
  })

  it('uses the output of a job that has ended, or one of its checkpoints', async () => {
    const { plan, progress } = await job({ state: 'completed' }, [100, 200])
    await world.put('outputs/x', ADAPTER)
    await generate('fine-tuned/x')
    await generate('fine-tuned/x@step-100')
    expect(asked.map(({ model_path, adapter_path }) => [model_path, adapter_path])).toEqual([
      [base, plan.outputDir],
      [base, progress.checkpoints[0]?.path],
    ])
  })

  it.each(['running', 'paused', 'failed', 'stopped'] as const)(
    'uses the newest checkpoint that is still there of a job that is %s',
    async (state) => {
      const { progress } = await job({ state }, [200, 100, 300])
      await rm(progress.checkpoints[2]?.path ?? '', { recursive: true })
      await generate('fine-tuned/x')
      expect(asked[0]?.adapter_path).toBe(progress.checkpoints[0]?.path)
      await expect(generate('fine-tuned/x@step-300')).rejects.toMatchObject({
        code: 'not_found',
        message: 'There is no fine-tuned/x@step-300. Its checkpoints: fine-tuned/x@step-100, fine-tuned/x@step-200',
      })
    },
  )

  it('takes the whole model after full fine-tuning', async () => {
    const queued = queuedJob('x')
    const { plan } = await job(
      { state: 'completed', plan: { ...queued.plan, method: 'full', outputDir: join(world.root, 'outputs/x') } },
      [100],
      modelFiles(),
    )
    await world.put('outputs/x', modelFiles())
    await generate('fine-tuned/x')
    await generate('fine-tuned/x@step-100')
    expect(asked.map(({ model_path, adapter_path }) => [model_path, adapter_path])).toEqual([
      [plan.outputDir, null],
      [join(plan.outputDir, 'checkpoints/step-00000100'), null],
    ])
  })

  it('says what there is when there is nothing yet', async () => {
    await job({ state: 'running' })
    await expect(generate('fine-tuned/x')).rejects.toMatchObject({
      code: 'conflict',
      message: 'fine-tuned/x has nothing to generate with yet: the job is running and has not saved a checkpoint',
    })
    await expect(generate('fine-tuned/x@step-5')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('Its checkpoints: none'),
    })
    for (const name of ['fine-tuned/y', 'fine-tuned/x@5', 'fine-tuned/../x', 'fine-tuned/'])
      await expect(generate(name), name).rejects.toMatchObject({ code: expect.stringMatching(/not_found|invalid/) })
    expect(asked).toEqual([])
  })

  it('is cancelled by the signal, with its reason', async () => {
    const controller = new AbortController()
    const answer = providers
      .get('local_mlx')
      .generate(ask({ model: 'smollm2-135m-instruct', messages: null, prompt: 'wait' }), controller.signal)
    await expect.poll(() => asked.length).toBe(1)
    const reason = new ServiceError('unavailable', 'The server is shutting down')
    controller.abort(reason)
    await expect(answer).rejects.toBe(reason)
  })

  it('is listed with its checkpoints', async () => {
    await job({ state: 'running' }, [100, 200])
    await job({ state: 'running', name: 'nothing-yet' })
    expect(await listFineTuned(jobs)).toEqual([
      {
        id: 'fine-tuned/x',
        source: 'fine_tuned',
        architecture: 'llama',
        quantization: '4-bit',
        size_bytes: safetensors(4).length + 2,
        base_model: 'SmolLM2-135M-Instruct',
        serving_verified: null,
        checkpoints: ['fine-tuned/x@step-100', 'fine-tuned/x@step-200'],
      },
    ])
  })

  describe('the registry', () => {
    it.each([
      [{}, 'local_mlx', 'SmolLM2-135M-Instruct'],
      [{ model: 'org/m' }, 'local_mlx', 'org/m'],
      [{ model: 'fine-tuned/x' }, 'local_mlx', 'fine-tuned/x'],
      [{ model: 'local_mlx/openai/gpt-oss-20b' }, 'local_mlx', 'openai/gpt-oss-20b'],
      [{ model: 'openai/gpt-4.1' }, 'openai', 'gpt-4.1'],
      [{ model: 'anthropic/claude-opus-4-7' }, 'anthropic', 'claude-opus-4-7'],
      [{ model: 'together/meta-llama/Llama-3.3-70B' }, 'together', 'meta-llama/Llama-3.3-70B'],
      [{ model: 'ollama/llama3.2:1b' }, 'ollama', 'llama3.2:1b'],
      [{ provider: 'together', model: 'openai/gpt-oss-20b' }, 'together', 'openai/gpt-oss-20b'],
      [{ provider: 'openai', model: 'openai/gpt-4.1' }, 'openai', 'gpt-4.1'],
      [{ provider: 'local_mlx' }, 'local_mlx', 'SmolLM2-135M-Instruct'],
    ] as const)('routes %j', (request, name, model) => {
      const routed = providers.route(request)
      expect([routed.provider.name, routed.model]).toEqual([name, model])
    })

    it('asks for a model where there is no default', async () => {
      const thrown = (request: Parameters<Providers['route']>[0]) => {
        try {
          return providers.route(request)
        } catch (error) {
          return error
        }
      }
      expect(thrown({ provider: 'openai' })).toMatchObject({ code: 'invalid_parameters', errors: [{ field: 'model' }] })
      expect(thrown({ model: 'openai/' })).toMatchObject({ code: 'invalid_parameters' })
      await rm(base, { recursive: true })
      expect(thrown({})).toMatchObject({ code: 'not_found', message: expect.stringContaining('npm run setup') })
    })

    it("lists providers in the seed document's shape", async () => {
      health = { ...READY, state: 'unavailable', reason: 'mlx is not installed: run "npm run setup"' }
      const noKey = { available: false, state: 'no_key', checked_at: null }
      expect(providers.list()).toEqual({
        available_providers: ['openai', 'anthropic', 'together', 'ollama', 'local_mlx'],
        current_provider: {
          active_provider: 'LocalMLXProvider',
          available_providers: [
            { name: 'OpenAIProvider', ...noKey, reason: 'set OPENAI_API_KEY' },
            { name: 'AnthropicProvider', ...noKey, reason: 'set ANTHROPIC_API_KEY' },
            { name: 'TogetherProvider', ...noKey, reason: 'set TOGETHER_API_KEY' },
            {
              name: 'OllamaProvider',
              available: false,
              state: 'unchecked',
              reason: expect.any(String),
              checked_at: null,
            },
            {
              name: 'LocalMLXProvider',
              available: false,
              state: 'not_ready',
              reason: 'mlx is not installed: run "npm run setup"',
              checked_at: expect.any(String),
            },
          ],
        },
      })
      health = READY
      expect(providers.list().current_provider.available_providers.at(-1)).toEqual({
        name: 'LocalMLXProvider',
        available: true,
        state: 'available',
        checked_at: expect.any(String),
      })
    })
  })
})

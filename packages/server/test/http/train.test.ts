import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import { alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let count = 0
let name: string
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await putModel(join(service.folder, 'tiny-4bit'), { quantized: true })
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(20)))
  await writeFile(join(service.folder, 'held-out.json'), JSON.stringify(alpacaRows(3)))
  await writeFile(join(service.folder, 'bad.json'), JSON.stringify([{ question: 'x' }]))
})
afterAll(() => service.close())
beforeEach(() => {
  name = `experiment-${++count}`
})

const start = (change: object = {}) =>
  service.call('POST', '/train/start', {
    experiment_name: name,
    model_name: './tiny',
    lora: { use_lora: true },
    dataset: { dataset_path: 'data.json' },
    ...change,
  })

describe('start', () => {
  test('queues the job with its data set, model and output folder resolved', async () => {
    const { status, body } = await start({ dataset: { dataset_path: 'data.json', validation_path: 'held-out.json' } })
    expect(status, JSON.stringify(body)).toBe(200)
    expect(contractErrors('trainStart', body)).toEqual([])
    expect(body).toMatchObject({
      experiment_name: name,
      status: 'started',
      dataset_info: { format: 'alpaca', total_samples: 20, validation_warnings: [] },
      lora_enabled: true,
      queue_position: 0,
      output_dir: join(service.folder, 'outputs', name),
    })
    expect(body.estimated_time).toMatch(/^about \d+ seconds$/)
    const { plan } = (await service.jobs.get(name)) as Job
    expect(plan).toMatchObject({
      method: 'lora',
      model: { kind: 'folder', path: join(service.folder, 'tiny') },
      dataset: { format: 'alpaca', samples: 20, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      validation: { samples: 3 },
    })
    expect(plan.dataset.path).toContain(join(service.config.home, 'snapshots'))
  })

  test('defaults of the API reference are filled in, in objects that were left out too', async () => {
    await service.call('POST', '/train/start', {
      experiment_name: name,
      model_name: './tiny',
      dataset: { dataset_path: 'data.json' },
    })
    const { request, plan } = (await service.jobs.get(name)) as Job
    expect(plan.method).toBe('full')
    expect(request).toMatchObject({
      epochs: 3,
      learning_rate: 5e-5,
      lora: {
        use_lora: false,
        lora_r: 16,
        lora_alpha: 32,
        lora_dropout: 0.1,
        lora_target_modules: ['q_proj', 'v_proj', 'k_proj', 'o_proj'],
        use_qlora: false,
      },
      dataset: { batch_size: 4, max_seq_length: 2048, shuffle: true },
      seed: 42,
    })
  })

  test('use_qlora implies use_lora', async () => {
    const { body } = await start({ model_name: './tiny-4bit', lora: { use_qlora: true } })
    expect(body.lora_enabled).toBe(true)
    expect((await service.jobs.get(name))?.plan.method).toBe('qlora')
  })

  test('full fine-tuning of a quantised base says what to do instead', async () => {
    const { status, body } = await start({ model_name: './tiny-4bit', lora: { use_lora: false } })
    expect(status).toBe(400)
    expect(body.detail).toMatch(/4-bit.*lora\.use_lora.*not quantised/)
    expect(body.errors[0].field).toBe('lora.use_lora')
    expect(await service.jobs.get(name)).toBeNull()
  })

  test.each([
    [{ dataset: { dataset_path: 'none.json' } }, 404, 'dataset.dataset_path', 'none.json'],
    [{ dataset: { dataset_path: '/etc/passwd' } }, 403, 'dataset.dataset_path', 'MLX_TRAINING_DATASET_ROOTS'],
    [{ dataset: { dataset_path: 'data.json', validation_path: 'none.json' } }, 404, 'dataset.validation_path', 'none'],
    [{ output_dir: '/etc/out' }, 403, 'output_dir', 'MLX_TRAINING_OUTPUT_ROOTS'],
    [{ output_dir: 'data.json' }, 400, 'output_dir', 'not a folder'],
    [{ model_name: './nothing' }, 404, 'model_name', 'nothing'],
    [{ model_name: 'nobody/nothing' }, 404, 'model_name', 'HF_HUB_OFFLINE'],
    [{ model_name: 'fine-tuned/x' }, 400, 'model_name', 'base model'],
  ])('%j: %d at %s', async (change, status, field, detail) => {
    const { status: given, body } = await start(change)
    expect(given, JSON.stringify(body)).toBe(status)
    expect(body.detail).toContain(detail)
    expect(body.errors[0].field).toBe(field)
    expect(await service.jobs.get(name)).toBeNull()
  })

  test('a data set that is not valid, or of another format than said', async () => {
    expect(await start({ dataset: { dataset_path: 'bad.json' } })).toMatchObject({
      status: 400,
      body: { error_type: 'ValidationError' },
    })
    expect(await start({ dataset: { dataset_path: 'data.json', dataset_format: 'sharegpt' } })).toMatchObject({
      status: 400,
    })
  })

  test('an output folder with something of others in it', async () => {
    const folder = join(service.folder, 'outputs', name)
    await mkdir(folder, { recursive: true })
    expect((await start()).status).toBe(200)
    name = `${name}-b`
    const other = join(service.folder, 'outputs', name)
    await mkdir(other)
    await writeFile(join(other, 'thesis.tex'), 'x')
    const { status, body } = await start()
    expect(status).toBe(409)
    expect(body.detail).toMatch(/not empty: empty it.*output_dir/)
    expect((await start({ overwrite: true })).status).toBe(409)
  })

  test('an output folder of a training run: of another experiment never, a forgotten one with overwrite', async () => {
    const folder = join(service.folder, 'outputs', name)
    await mkdir(join(folder, 'checkpoints', 'step-00000004'), { recursive: true })
    expect((await start()).body.detail).toMatch(/set overwrite/)
    expect((await start({ overwrite: true })).status).toBe(200)
    const owner = name
    name = `${name}-b`
    const { status, body } = await start({ output_dir: `outputs/${owner}`, overwrite: true })
    expect(status).toBe(409)
    expect(body.detail).toContain(`experiment "${owner}"`)
  })

  test('an output folder of this server, of another program, or around or inside that of another experiment', async () => {
    expect((await start({ output_dir: 'outputs' })).status).toBe(400)
    await start()
    const inner = await start({ experiment_name: `${name}-in`, output_dir: `outputs/${name}/deep` })
    expect(inner).toMatchObject({ status: 400, body: { errors: [{ field: 'output_dir' }] } })
    expect(inner.body.detail).toContain(`experiment "${name}"`)
    for (const folder of ['.git/x', 'outputs/.ssh'])
      expect((await start({ experiment_name: `${name}-h`, output_dir: folder })).body.detail).toMatch(/hidden folder/)
    const home = await start({ experiment_name: `${name}-s`, output_dir: join(service.config.home, 'snapshots') })
    expect(home.body.detail).toMatch(/server's own folder/)
  })

  test('a validation file that is not valid is told as such', async () => {
    const { body } = await start({ dataset: { dataset_path: 'data.json', validation_path: 'bad.json' } })
    expect(body).toMatchObject({ status_code: 400, errors: [{ field: 'dataset.validation_path' }] })
  })

  test('a taken name: 409, and replaced once it has ended and overwrite says so', async () => {
    await start()
    expect(await start()).toMatchObject({ status: 409, body: { error_type: 'ConflictError' } })
    expect((await start({ overwrite: true })).status).toBe(409)
    await service.call('POST', `/train/${name}/stop`)
    await mkdir(join(service.folder, 'outputs', name), { recursive: true })
    await writeFile(join(service.folder, 'outputs', name, 'adapters.safetensors'), 'x')
    expect((await start()).body.detail).toMatch(/overwrite/)
    expect((await start({ overwrite: true })).status).toBe(200)
  })

  test('without an engine: 503 with the reason', async () => {
    const bare = await createService()
    const request = { experiment_name: name, model_name: 'x', dataset: { dataset_path: 'x' } }
    const { status, body } = await bare.call('POST', '/train/start', request)
    expect(status).toBe(503)
    expect(body).toMatchObject({ error_type: 'ServiceUnavailableError', detail: expect.stringMatching(/no Python at/) })
    await bare.close()
  })
})

describe('commands', () => {
  test('stop, pause and resume of a job that waits', async () => {
    await start()
    const command = async (what: string) => {
      const answer = await service.call('POST', `/train/${name}/${what}`)
      if (answer.status === 200) expect(contractErrors('trainStop', answer.body)).toEqual([])
      return answer
    }
    expect(await command('pause')).toMatchObject({ status: 200, body: { status: 'paused' } })
    expect(await command('resume')).toMatchObject({ status: 200, body: { status: 'queued' } })
    expect(await command('stop')).toMatchObject({ status: 200, body: { experiment_name: name, status: 'stopped' } })
    expect(await command('stop')).toMatchObject({ status: 409, body: { detail: expect.stringContaining('stopped') } })
    expect(await command('pause')).toMatchObject({ status: 409 })
  })

  test('stop of one at work answers as the API reference prints', async () => {
    await start()
    const job = (await service.jobs.get(name)) as Job
    await service.store.update(job.id, null, () => ({ change: { state: 'running' }, events: [] }))
    expect((await service.call('POST', `/train/${name}/stop`)).body).toEqual({
      experiment_name: name,
      status: 'stopping',
      message: 'Training job is being stopped',
    })
  })

  test('clients that set the content type on an empty POST, or send {}', async () => {
    await start()
    const headers = { 'x-api-key': 'admin-key-of-the-tests', 'content-type': 'application/json' }
    expect((await service.call('POST', `/train/${name}/pause`, '', headers)).status).toBe(200)
    expect((await service.call('POST', `/train/${name}/resume`, {})).status).toBe(200)
  })
})

const PREPARED = {
  total_steps: 750,
  steps_per_epoch: 250,
  resumed_from_step: 0,
  samples: 1000,
  samples_dropped: 0,
  samples_truncated: 0,
  tokens: 90_000,
  trained_tokens: 50_000,
  trainable_params: 2_621_440,
  total_params: 1_544_238_080,
  target_modules: ['k_proj', 'o_proj', 'q_proj', 'v_proj'],
  validation_samples: 0,
  packing: false,
  lanes: 2,
  ranks: 1,
}
const STEP = {
  step: 450,
  epoch: 2,
  loss: 0.245,
  smoothed_loss: 0.25,
  padding_share: 0.02,
  learning_rate: 3.5e-5,
  grad_norm: 0.8,
  tokens: 400,
  trained_tokens: 200,
  tokens_per_second: 1250,
  trained_tokens_per_second: 610,
  processed_samples: 600,
  memory_mb: 4500,
  seconds_remaining: 2400,
}

describe('status and list', () => {
  const progressed = async (change: Partial<Job>, progress: Partial<Job['progress']> = {}) => {
    await start()
    const job = (await service.jobs.get(name)) as Job
    await service.store.update(job.id, null, (current) => ({
      change: { ...change, progress: { ...current.progress, ...progress } },
      events: [],
    }))
  }
  const status = async () => {
    const { body } = await service.call('GET', `/train/${name}/status`)
    expect(contractErrors('trainStatus', body)).toEqual([])
    return body
  }

  test('a job that waits: zeros and nulls, nothing left out', async () => {
    await start()
    expect(await status()).toMatchObject({
      status: 'queued',
      progress: { current_epoch: 0, total_epochs: 3, current_step: 0, total_steps: 0, percentage: 0 },
      metrics: { loss: null, tokens_per_second: 0, gpu_memory_used_mb: 0 },
      lora_details: { enabled: true, rank: 16, trainable_params: 0, total_params: 0, trainable_percentage: 0 },
      dataset_details: { format: 'alpaca', total_samples: 20, processed_samples: 0 },
      queue_position: expect.any(Number),
      started_at: null,
    })
  })

  test('a running job reads as the API reference prints', async () => {
    const checkpoint = {
      step: 400,
      loss: 0.3,
      validation_loss: null,
      best: false,
      created_at: '2026-01-01T00:00:00Z',
      path: '/x',
    }
    await progressed(
      { state: 'running', startedAt: '2026-01-01T00:00:00Z' },
      { prepared: PREPARED, step: STEP, loss: 0.245, checkpoints: [checkpoint], warnings: ['careful'] },
    )
    expect(await status()).toMatchObject({
      status: 'running',
      progress: { current_epoch: 2, total_epochs: 3, current_step: 450, total_steps: 750, percentage: 60 },
      metrics: { loss: 0.245, learning_rate: 3.5e-5, tokens_per_second: 1250, gpu_memory_used_mb: 4500 },
      lora_details: {
        target_modules: ['q_proj', 'v_proj', 'k_proj', 'o_proj'],
        trainable_params: 2_621_440,
        total_params: 1_544_238_080,
        trainable_percentage: 0.17,
      },
      dataset_details: { processed_samples: 600 },
      estimated_seconds_remaining: 2400,
      checkpoints: [{ step: 400, model: `fine-tuned/${name}@step-400` }],
      warnings: ['careful'],
      queue_position: null,
    })
  })

  test('percentages: two decimals, four for a sliver of the parameters, 100 when completed early', async () => {
    await progressed(
      { state: 'running' },
      { prepared: { ...PREPARED, total_steps: 7, trainable_params: 12_345 }, step: { ...STEP, step: 1 } },
    )
    const body = await status()
    expect(body.progress.percentage).toBe(14.29)
    expect(body.lora_details.trainable_percentage).toBe(0.0008)
    name = `${name}-done`
    await progressed({ state: 'completed', completedAt: '2026-01-01T01:00:00Z' }, { prepared: PREPARED, step: STEP })
    expect(await status()).toMatchObject({ progress: { percentage: 100 }, estimated_seconds_remaining: null })
  })

  test('the list: newest first, completed_at only of what has ended', async () => {
    await progressed({ state: 'completed', startedAt: '2026-01-01T00:00:00Z', completedAt: '2026-01-01T01:00:00Z' })
    const older = name
    name = `${name}-newer`
    await start()
    const { body } = await service.call('GET', '/train')
    expect(contractErrors('trainList', body)).toEqual([])
    const [first, second] = body.training_jobs
    expect(first).toMatchObject({ experiment_name: name, status: 'queued', started_at: expect.any(String) })
    expect(first).not.toHaveProperty('completed_at')
    expect(second).toMatchObject({ experiment_name: older, completed_at: '2026-01-01T01:00:00Z', lora_enabled: true })
  })
})

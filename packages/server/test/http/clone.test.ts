import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { trainCommand } from '../../src/jobs/command.ts'
import type { Job } from '../../src/jobs/port.ts'
import { writeRun } from '../jobs/output-files.ts'
import { alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let name: string
let count = 0
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  for (const model of ['tiny', 'other']) await putModel(join(service.folder, model))
  await writeFile(join(service.folder, 'held-out.json'), JSON.stringify(alpacaRows(3)))
})
afterAll(() => service.close())
beforeEach(async () => {
  name = `experiment-${++count}`
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(20)))
})

const LORA = { use_lora: true, lora_r: 8, lora_alpha: 16 }
const start = (change: object = {}) =>
  service.call('POST', '/train/start', {
    experiment_name: name,
    model_name: './tiny',
    lora: LORA,
    dataset: { dataset_path: 'data.json' },
    ...change,
  })
const jobOf = async (experiment: string) => (await service.jobs.get(experiment)) as Job

test('the request of a job is told with its defaults, and starts the same under another name', async () => {
  await start({ epochs: 7 })
  const told = await service.call('GET', `/train/${name}/request`)
  expect(told.status).toBe(200)
  expect(contractErrors('trainRequest', told.body)).toEqual([])
  expect(told.body).toMatchObject({
    experiment_name: name,
    epochs: 7,
    lora: { lora_r: 8, lora_dropout: 0.1 },
    seed: 42,
  })
  const again = await service.call('POST', '/train/start', { ...told.body, experiment_name: `${name}-again` })
  expect(again.status, JSON.stringify(again.body)).toBe(200)
  expect((await jobOf(`${name}-again`)).request).toEqual({ ...told.body, experiment_name: `${name}-again` })
  expect((await service.call('GET', '/train/none/request')).status).toBe(404)
})

describe('clone', () => {
  const clone = (change: object = {}) =>
    service.call('POST', `/train/${name}/clone`, { experiment_name: `${name}-b`, ...change })

  test('starts the stored request with changes: objects merged, the rest replaced, null takes out', async () => {
    await start({ epochs: 7, max_steps: 5, output_dir: `out/${name}`, sample_prompts: ['a', 'b'], priority: 3 })
    const { status, body } = await clone({
      changes: {
        learning_rate: 1e-3,
        lora: { lora_r: 4 },
        max_steps: null,
        sample_prompts: ['c'],
        dataset: { batch_size: 2 },
      },
    })
    expect(status, JSON.stringify(body)).toBe(200)
    expect(contractErrors('trainClone', body)).toEqual([])
    expect(body).toMatchObject({
      experiment_name: `${name}-b`,
      output_dir: join(service.folder, 'outputs', `${name}-b`),
    })
    const { request } = await jobOf(`${name}-b`)
    expect(request).toEqual({
      ...(await jobOf(name)).request,
      experiment_name: `${name}-b`,
      output_dir: undefined,
      max_steps: undefined,
      overwrite: false,
      learning_rate: 1e-3,
      sample_prompts: ['c'],
      lora: { ...(await jobOf(name)).request.lora, lora_r: 4 },
      dataset: { ...(await jobOf(name)).request.dataset, batch_size: 2 },
    })
  })

  test('keeps the tags, or takes those of the changes', async () => {
    await start({ tags: ['support', 'baseline', 'support'] })
    expect((await clone()).status).toBe(200)
    expect((await clone({ experiment_name: `${name}-c`, changes: { tags: ['other'] } })).status).toBe(200)
    expect((await clone({ experiment_name: `${name}-d`, changes: { tags: null } })).status).toBe(200)
    const { training_jobs: all } = (await service.call('GET', '/train')).body
    for (const [experiment, tags] of [
      [name, ['support', 'baseline']],
      [`${name}-b`, ['support', 'baseline']],
      [`${name}-c`, ['other']],
      [`${name}-d`, []],
    ] as const) {
      const { body } = await service.call('GET', `/train/${experiment}/status`)
      expect(contractErrors('trainStatus', body)).toEqual([])
      expect(body.tags).toEqual(tags)
      expect(all.find((job: { experiment_name: string }) => job.experiment_name === experiment).tags).toEqual(tags)
    }
    expect((await service.call('GET', `/train/${name}-c/request`)).body.tags).toEqual(['other'])
  })

  test.each([
    ['17 of them', Array.from({ length: 17 }, (_, i) => `tag ${i}`), 'tags'],
    ['an empty one', ['a', ''], 'tags.1'],
    ['one of 65 characters', ['a'.repeat(65)], 'tags.0'],
    ['a number', [7], 'tags.0'],
    ['no list', 'a', 'tags'],
  ])('tags: %s is refused', async (_, tags, field) => {
    const { status, body } = await start({ tags })
    expect(status).toBe(422)
    expect(body.errors[0].field).toBe(field)
    expect(await service.jobs.get(name)).toBeNull()
  })

  test('tags: 16 of 64 characters are taken', async () => {
    const tags = Array.from({ length: 16 }, (_, i) => String(i).padEnd(64, 'é'))
    expect((await start({ tags })).status).toBe(200)
    expect((await jobOf(name)).request.tags).toEqual(tags)
  })

  test('takes a folder of its own, and overwrite', async () => {
    await start()
    expect((await clone({ output_dir: `out/${name}` })).body.output_dir).toBe(join(service.folder, 'out', name))
    await service.call('POST', `/train/${name}-b/stop`)
    expect((await clone()).status).toBe(409)
    expect((await clone({ overwrite: true })).status).toBe(200)
  })

  test.each([
    [{ changes: { epochs: 0 } }, 422, 'changes.epochs'],
    [{ changes: { lora: { lora_rank: 3 } } }, 422, 'changes.lora.lora_rank'],
    [{ changes: { model_name: null } }, 422, 'changes.model_name'],
    [{ changes: { lora: 'none' } }, 422, 'changes.lora'],
    [{ changes: { dataset: { dataset_path: 'none.json' } } }, 404, 'dataset.dataset_path'],
    [{ changes: { eval_steps: 3 } }, 400, 'eval_steps'],
    [{ changes: [] }, 422, 'changes'],
    [{ epochs: 3 }, 422, 'epochs'],
    [{ experiment_name: '../x' }, 422, 'experiment_name'],
    [{ output_dir: '/etc/x' }, 403, 'output_dir'],
  ])('%j: %d at %s', async (change, status, field) => {
    await start()
    const answer = await clone(change)
    expect(answer.status, JSON.stringify(answer.body)).toBe(status)
    expect(answer.body.errors[0].field).toBe(field)
    expect(await service.jobs.get(`${name}-b`)).toBeNull()
  })

  test('of an experiment that is not there, or under its own name', async () => {
    expect((await clone()).status).toBe(404)
    await start()
    expect((await clone({ experiment_name: name })).status).toBe(409)
  })

  test('takes the data file as it is now, and says when it has changed', async () => {
    await start()
    expect((await clone()).body.dataset_info.validation_warnings).toEqual([])
    await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(30)))
    const { body } = await clone({ experiment_name: `${name}-c` })
    expect(body.dataset_info.total_samples).toBe(30)
    expect(body.dataset_info.validation_warnings).toEqual([
      `data.json has changed since "${name}" was started: this run takes it as it is now`,
    ])
  })

  test('takes the copy of data that are gone, and says so', async () => {
    await start({ dataset: { dataset_path: 'data.json', validation_path: 'held-out.json' } })
    const held = await readFile(join(service.folder, 'held-out.json'))
    for (const file of ['data.json', 'held-out.json']) await rm(join(service.folder, file))
    try {
      const { status, body } = await clone()
      expect(status, JSON.stringify(body)).toBe(200)
      expect(body.dataset_info.validation_warnings).toEqual([
        `data.json is no longer there: this run takes the copy that "${name}" was trained on`,
        '3 of 3 rows of validation_path are trained on, too',
      ])
      const [{ plan }, source] = [await jobOf(`${name}-b`), await jobOf(name)]
      expect(plan.dataset).toMatchObject({
        path: source.plan.dataset.path,
        sha256: source.plan.dataset.sha256,
        samples: 20,
      })
      expect(plan.validation).toEqual(source.plan.validation)
      const other = await clone({ experiment_name: `${name}-c`, changes: { dataset: { dataset_format: 'sharegpt' } } })
      expect(other.status).toBe(404)
      await rm(source.plan.dataset.path)
      expect((await clone({ experiment_name: `${name}-d` })).status).toBe(404)
    } finally {
      await writeFile(join(service.folder, 'held-out.json'), held)
    }
  })
})

describe('resume_from', () => {
  const resumeFrom = (resume_from: string, change: object = {}) =>
    start({ experiment_name: `${name}-next`, resume_from, ...change })

  /** An experiment with a result and two checkpoints, as the engine leaves it. */
  async function trained(change: object = {}, full = false): Promise<Job> {
    expect((await start(change)).status).toBe(200)
    const { id, plan } = await jobOf(name)
    await writeRun(plan.outputDir, { id, name }, [4, 8], full)
    const saved = (step: number) => ({
      step,
      loss: 1,
      validation_loss: null,
      best: false,
      created_at: '2026-01-01T00:00:00Z',
      path: join(plan.outputDir, 'checkpoints', `step-0000000${step}`),
    })
    await service.store.update(id, null, (job) => ({
      change: {
        state: 'completed',
        completedAt: '2026-01-01T00:00:00Z',
        progress: { ...job.progress, checkpoints: [saved(4), saved(8)] },
      },
      events: [],
    }))
    await writeFile(join(plan.outputDir, full ? 'model.safetensors' : 'adapters.safetensors'), 'the result')
    return await jobOf(name)
  }

  test.each(['', 'fine-tuned/'])(
    '%sNAME and NAME@step-N become the adapter that training begins with',
    async (prefix) => {
      await trained()
      expect((await resumeFrom(`${prefix}${name}`)).status).toBe(200)
      const job = await jobOf(`${name}-next`)
      expect(job.plan.initial?.name).toBe(`fine-tuned/${name}`)
      const command = trainCommand(job, '/models/base', '/cache', null)
      expect(command).toMatchObject({ model_path: '/models/base', initial_adapter: job.plan.initial?.path })
      const adapter = join(String(command.initial_adapter), 'adapters.safetensors')
      expect(await readFile(adapter, 'utf8')).toBe('the result')

      const checkpoint = await resumeFrom(`${prefix}${name}@step-4`, { experiment_name: `${name}-4` })
      expect(checkpoint.status).toBe(200)
      const { plan } = await jobOf(`${name}-4`)
      expect(plan.initial?.name).toBe(`fine-tuned/${name}@step-4`)
      expect((await readdir(String(plan.initial?.path))).sort()).toEqual([
        'adapter_config.json',
        'adapters.safetensors',
        'chat_template.jinja',
      ])
    },
  )

  test('needs nothing more of the other experiment, which may be deleted', async () => {
    await trained()
    await resumeFrom(name)
    await service.call('DELETE', `/train/${name}`)
    const { plan } = await jobOf(`${name}-next`)
    expect(await readFile(join(String(plan.initial?.path), 'adapters.safetensors'), 'utf8')).toBe('the result')
    await service.call('POST', `/train/${name}-next/stop`)
    await service.call('DELETE', `/train/${name}-next`)
    expect(existsSync(String(plan.initial?.path))).toBe(false)
  })

  test('an experiment may go on from itself, replaced', async () => {
    const { id } = await trained()
    expect((await start({ resume_from: name, overwrite: true })).status).toBe(200)
    const { plan, id: next } = await jobOf(name)
    expect(next).not.toBe(id)
    await service.sweeper.sweep()
    expect(await readFile(join(String(plan.initial?.path), 'adapters.safetensors'), 'utf8')).toBe('the result')
  })

  test('after full fine-tuning the model takes the place of the base', async () => {
    const full = { lora: { use_lora: false } }
    await trained(full, true)
    expect((await resumeFrom(name, full)).status).toBe(200)
    const job = await jobOf(`${name}-next`)
    const command = trainCommand(job, '/models/base', '/cache', null)
    expect(command).toMatchObject({ model_path: job.plan.initial?.path, initial_adapter: null, lora: null })
    expect(await readdir(command.model_path)).toEqual(expect.arrayContaining(['model.safetensors', 'tokenizer.json']))
    expect(await readdir(command.model_path)).not.toEqual(expect.arrayContaining(['.mlx-training.json']))
  })

  test.each([
    [{ lora: { ...LORA, lora_r: 4 } }, 'lora.lora_r', 'is 4, but .* was trained with 8'],
    [{ lora: { ...LORA, lora_alpha: 8 } }, 'lora.lora_alpha', 'is 8, but .* with 16'],
    [{ lora: { ...LORA, use_dora: true } }, 'lora.use_dora', 'is true, but .* with false'],
    [
      { lora: { ...LORA, lora_target_modules: ['q_proj'] } },
      'lora.lora_target_modules',
      String.raw`is \["q_proj"\], but .* with \["k_proj","o_proj","q_proj","v_proj"\]`,
    ],
    [{ lora: { use_qlora: true, lora_r: 8, lora_alpha: 16 } }, 'lora.use_lora', 'is qlora, but .* with lora'],
    [{ lora: { use_lora: false } }, 'lora.use_lora', 'is full, but .* with lora'],
    [{ model_name: './other' }, 'model_name', 'is ./other, but .* with ./tiny'],
  ])('%j: 400 at %s with both values', async (change, field, message) => {
    await trained()
    const { status, body } = await resumeFrom(name, change)
    expect(status, JSON.stringify(body)).toBe(400)
    expect(body.errors[0]).toEqual({ field, message: expect.stringMatching(message) })
    expect(body.detail).toContain(field)
    expect(await service.jobs.get(`${name}-next`)).toBeNull()
  })

  test('the order of target modules makes no difference', async () => {
    await trained()
    const lora = { ...LORA, lora_target_modules: ['v_proj', 'q_proj', 'o_proj', 'k_proj'] }
    expect((await resumeFrom(name, { lora })).status).toBe(200)
  })

  test.each(['nobody', 'nobody@step-4', 'fine-tuned/nobody', '../x', '@step-4'])('%j: 404', async (from) => {
    const { status, body } = await resumeFrom(from)
    expect(status).toBe(404)
    expect(body.errors[0].field).toBe('resume_from')
  })

  test('a checkpoint that is not there: 404 with those that are; nothing learned yet: 409', async () => {
    await trained()
    const { status, body } = await resumeFrom(`${name}@step-5`)
    expect(status).toBe(404)
    expect(body.detail).toContain(`fine-tuned/${name}@step-4`)
    name = `${name}-waiting`
    await start()
    const waiting = await resumeFrom(name)
    expect(waiting).toMatchObject({ status: 409, body: { errors: [{ field: 'resume_from' }] } })
  })

  test('the estimate takes it as well, and refuses the same', async () => {
    await trained()
    const estimate = (resume_from: string) =>
      service.call('POST', '/train/estimate', {
        model_name: './tiny',
        lora: LORA,
        dataset: { dataset_path: 'data.json' },
        resume_from,
      })
    expect((await estimate(name)).status).toBe(200)
    expect((await estimate('nobody')).status).toBe(404)
  })
})

test('a job stopped before its first step has nothing to generate with', async () => {
  await start()
  const { id, plan } = await jobOf(name)
  await writeRun(plan.outputDir, { id, name }, [])
  const path = join(plan.outputDir, 'checkpoints', 'step-00000000')
  await mkdir(path, { recursive: true })
  for (const file of ['adapters.safetensors', 'adapter_config.json']) await writeFile(join(path, file), 'x')
  const checkpoint = {
    step: 0,
    loss: null,
    validation_loss: null,
    best: false,
    created_at: '2026-01-01T00:00:00Z',
    path,
  }
  await service.store.update(id, null, (job) => ({
    change: {
      state: 'stopped',
      completedAt: '2026-01-01T00:00:00Z',
      progress: { ...job.progress, checkpoints: [checkpoint] },
    },
    events: [],
  }))
  const generate = (model: string) => service.call('POST', '/generate', { prompt: 'Hi', model })
  expect(await generate(`fine-tuned/${name}`)).toMatchObject({ status: 409, body: { error_type: 'ConflictError' } })
  expect((await generate(`fine-tuned/${name}@step-0`)).status).toBe(404)
  expect((await service.call('GET', `/train/${name}/status`)).body.checkpoints).toEqual([])
  const { body } = await service.call('GET', '/models', undefined, {})
  expect(JSON.stringify(body)).not.toContain(name)
})

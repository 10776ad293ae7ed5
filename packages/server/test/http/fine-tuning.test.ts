/** OpenAI's own SDK, unchanged, uploads files and manages fine-tuning jobs; what an engine would tell is written by the test. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FrameOf, RouteName } from '@mlx-training/contract'
import OpenAI, { toFile } from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Job, JobProgress } from '../../src/jobs/port.ts'
import type { NewEvent } from '../../src/store/port.ts'
import { ADMIN, alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let url: string
let client: OpenAI
let training: string
let held: string

const jsonl = (rows: object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('')
const upload = async (text: string, name = 'rows.jsonl', more: object = {}) =>
  await client.files.create({ file: await toFile(Buffer.from(text), name), purpose: 'fine-tune', ...more })
const create = (change: object = {}) =>
  client.fineTuning.jobs.create({ model: './tiny', training_file: training, ...change })
const refusal = (asked: Promise<unknown>) =>
  asked.then(
    () => expect.unreachable(),
    (error) => error,
  )
const jobOf = async (id: string) => (await service.store.jobById(id.replace('ftjob-', 'job_'))) as Job
const keeps = (name: RouteName, body: unknown) => expect(contractErrors(name, body)).toEqual([])

beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: ADMIN, maxRetries: 0 })
  training = (await upload(jsonl(alpacaRows(40)))).id
  held = (await upload(jsonl(alpacaRows(50).slice(40)), 'held.jsonl')).id
}, 60_000)
afterAll(() => service.close())

/** What its engine would have told. */
const tell = async (id: string, change: Partial<Job>, events: NewEvent[] = [], progress: Partial<JobProgress> = {}) => {
  await service.store.update((await jobOf(id)).id, null, (job) => ({
    change: { ...change, progress: { ...job.progress, ...progress } },
    events,
  }))
}
const step = (number: number, loss: number | null, more: object = {}): NewEvent => ({
  type: 'step',
  data: { step: number, loss, ...more },
})
const prepared = { samples: 40, tokens: 4000, total_steps: 30 } as JobProgress['prepared']
const stepFrame = (more: object) => ({ step: 30, processed_samples: 120, ...more }) as Omit<FrameOf<'step'>, 'type'>

describe('files', () => {
  test('an upload is a data set, and a data set a file', async () => {
    const text = jsonl(alpacaRows(12))
    const file = await upload(text, 'facts.jsonl')
    keeps('openaiFileUpload', file)
    expect(file).toMatchObject({
      object: 'file',
      bytes: Buffer.byteLength(text),
      filename: 'facts.jsonl',
      purpose: 'fine-tune',
      status: 'processed',
    })
    expect(Math.abs(file.created_at - Date.now() / 1000)).toBeLessThan(600)
    const dataset = await service.call('GET', `/datasets/${file.id.replace('file-', 'ds_')}`)
    expect(dataset).toMatchObject({ status: 200, body: { name: 'facts.jsonl', rows: 12 } })
    expect(await client.files.retrieve(file.id)).toEqual(file)
    expect(await client.files.waitForProcessing(file.id)).toEqual(file)
    const content = await client.files.content(file.id)
    expect(await content.text()).toBe(text)
    expect(content.headers.get('content-length')).toBe(String(file.bytes))
    expect(await client.files.delete(file.id)).toEqual({ id: file.id, object: 'file', deleted: true })
    expect((await service.call('GET', `/datasets/${file.id.replace('file-', 'ds_')}`)).status).toBe(404)
  })

  test('fields may come in any order, and say how the file is to be read', async () => {
    const form = new FormData()
    form.append('purpose', 'fine-tune')
    form.append('columns', '{"prompt": "q", "response": "a"}')
    form.append(
      'file',
      new Blob([jsonl(alpacaRows(9).map(({ instruction, output }) => ({ q: instruction, a: output })))]),
      'q.jsonl',
    )
    const response = await fetch(`${url}/v1/files`, { method: 'POST', body: form, headers: { 'x-api-key': ADMIN } })
    expect(await response.json()).toMatchObject({ status: 'processed', filename: 'q.jsonl' })
  })

  test('one that can not be trained on is kept, and tells why', async () => {
    const file = await upload('{"question": "x"}\n', 'bad.jsonl')
    keeps('openaiFileUpload', file)
    expect(file).toMatchObject({ status: 'error', status_details: expect.stringContaining('question') })
    expect(await client.files.retrieve(file.id)).toEqual(file)
    const listed = (await client.files.list()).data.find(({ id }) => id === file.id)
    expect(listed).toEqual(file)
    const refused = await refusal(create({ training_file: file.id }))
    expect(refused).toBeInstanceOf(OpenAI.BadRequestError)
    expect(refused).toMatchObject({ param: 'training_file', code: 'invalid_training_file' })
    expect(await refusal(create({ validation_file: file.id }))).toMatchObject({
      param: 'validation_file',
      code: 'invalid_validation_file',
    })
  })

  test('lists go by purpose, in either order, page by page', async () => {
    for (const n of [1, 2, 3]) await upload(jsonl(alpacaRows(10 + n)), `page-${n}.jsonl`)
    const all = await client.files.list({ purpose: 'fine-tune' })
    keeps('openaiFiles', { object: 'list', ...(await raw('/v1/files?purpose=fine-tune')) })
    const names = all.data.map(({ filename }) => filename)
    expect(names.filter((name) => name.startsWith('page-'))).toEqual(['page-3.jsonl', 'page-2.jsonl', 'page-1.jsonl'])
    const ids = all.data.map(({ id }) => id)
    expect((await client.files.list({ order: 'asc' })).data.map(({ id }) => id)).toEqual(
      expect.arrayContaining(ids.toReversed()),
    )
    const paged: string[] = []
    for await (const { id } of client.files.list({ limit: 2, purpose: 'fine-tune' })) paged.push(id)
    expect(paged).toEqual(ids)
    const page = await client.files.list({ limit: 2, after: ids[0] as string, purpose: 'fine-tune' })
    expect(page.has_more).toBe(ids.length > 3)
    expect(page.data.map(({ id }) => id)).toEqual(ids.slice(1, 3))
    expect(await refusal(client.files.list({ after: 'file-nowhere' }))).toMatchObject({ status: 400, param: 'after' })
    expect((await client.files.list({ purpose: 'batch' })).data).toEqual([])
    expect(await refusal(client.files.list({ limit: 0 }))).toMatchObject({ status: 400, param: 'limit' })
  })

  test.each([
    ['batch', 'purpose', /must be fine-tune/],
    ['assistants', 'purpose', /must be fine-tune/],
  ])('purpose %s is refused', async (purpose, param, message) => {
    const error = await refusal(upload('{}', 'x.jsonl', { purpose }))
    expect(error).toBeInstanceOf(OpenAI.BadRequestError)
    expect(error).toMatchObject({ param, message: expect.stringMatching(message), type: 'invalid_request_error' })
  })

  test('what else an upload can lack', async () => {
    const expires_after = { anchor: 'created_at', seconds: 3600 }
    expect(await refusal(upload('{}', 'x.jsonl', { expires_after }))).toMatchObject({ param: 'expires_after' })
    const form = new FormData()
    form.append('file', new Blob(['{}']), 'x.jsonl')
    const headers = { authorization: `Bearer ${ADMIN}` }
    const without = await fetch(`${url}/v1/files`, { method: 'POST', body: form, headers })
    expect([without.status, await without.json()]).toMatchObject([400, { error: { param: 'purpose' } }])
    const json = await fetch(`${url}/v1/files`, { method: 'POST', body: '{}', headers })
    expect([json.status, await json.json()]).toMatchObject([400, { error: { param: 'file' } }])
  })

  test('unknown ids', async () => {
    for (const id of ['file-nowhere', `file-${'0'.repeat(20)}`, 'file-results-0123456789abcdef', '../x'])
      for (const ask of [
        () => client.files.retrieve(id),
        () => client.files.content(id),
        () => client.files.delete(id),
      ]) {
        const error = await refusal(Promise.resolve<unknown>(ask()))
        expect(error, id).toBeInstanceOf(OpenAI.NotFoundError)
        if (!id.includes('/')) expect(error).toMatchObject({ param: 'id', code: 'file_not_found' })
      }
  })
})

const raw = async (path: string) => {
  const { status, body } = await service.call('GET', path)
  expect(status, JSON.stringify(body)).toBe(200)
  return body
}

describe('create', () => {
  test('makes a job of /train, and tells what "auto" has come to', async () => {
    const job = await create()
    keeps('fineTuningCreate', job)
    const told = { n_epochs: 3, batch_size: 4, learning_rate_multiplier: 1 }
    expect(job).toMatchObject({
      object: 'fine_tuning.job',
      model: './tiny',
      status: 'queued',
      fine_tuned_model: null,
      finished_at: null,
      trained_tokens: null,
      estimated_finish: null,
      error: null,
      result_files: [],
      integrations: [],
      seed: 42,
      metadata: null,
      training_file: training,
      validation_file: null,
      organization_id: 'org-local',
      hyperparameters: told,
      method: { type: 'supervised', supervised: { hyperparameters: told } },
    })
    const kept = await jobOf(job.id)
    expect(kept.name).toMatch(/^tiny-[0-9a-f]{8}$/)
    expect(kept.plan.method).toBe('lora')
    expect(kept.request).toMatchObject({
      learning_rate: 2e-4,
      lora: { lora_target_modules: ['all-linear'], lora_r: 16 },
    })
    const { training_jobs } = await raw('/train')
    expect(training_jobs[0]).toMatchObject({ experiment_name: kept.name, job_id: kept.id })
    expect(await client.fineTuning.jobs.retrieve(job.id)).toEqual(job)
  })

  test('takes every parameter', async () => {
    const job = await create({
      validation_file: held,
      suffix: 'Größe & Ton, v2!',
      seed: 7,
      metadata: { team: 'docs', empty: '' },
      integrations: [],
      method: {
        type: 'supervised',
        supervised: { hyperparameters: { n_epochs: 2, batch_size: 3, learning_rate_multiplier: 0.1 } },
      },
    })
    keeps('fineTuningCreate', job)
    expect(job).toMatchObject({
      validation_file: held,
      seed: 7,
      metadata: { team: 'docs', empty: '' },
      hyperparameters: { n_epochs: 2, batch_size: 3, learning_rate_multiplier: 0.1 },
    })
    const { name, request, plan } = await jobOf(job.id)
    expect(name).toMatch(/^tiny-Gr-e-Ton-v2-[0-9a-f]{8}$/)
    expect(request).toMatchObject({ epochs: 2, learning_rate: 2e-5, seed: 7, dataset: { batch_size: 3 } })
    expect(plan.validation).toMatchObject({ samples: 10 })
  })

  test('takes the deprecated hyperparameters, which those of method win over, and nulls as nothing', async () => {
    const job = await create({
      hyperparameters: { n_epochs: 5, batch_size: 2 },
      method: {
        type: 'supervised',
        supervised: { hyperparameters: { n_epochs: 'auto', learning_rate_multiplier: 2 } },
      },
    })
    expect(job.hyperparameters).toEqual({ n_epochs: 3, batch_size: 2, learning_rate_multiplier: 2 })
    const nulls = { validation_file: null, suffix: null, seed: null, metadata: null, integrations: null, method: null }
    expect((await create(nulls)).hyperparameters).toMatchObject({ n_epochs: 3, batch_size: 4 })
  })

  test.each([
    [1, { n_epochs: 25, batch_size: 1 }],
    [3, { n_epochs: 25, batch_size: 3 }],
    [10, { n_epochs: 10, batch_size: 4 }],
    [5000, { n_epochs: 3, batch_size: 8 }],
    [12_000, { n_epochs: 2, batch_size: 16 }],
  ])('"auto" for %i rows', async (rows, told) => {
    const { id } = await upload(jsonl(alpacaRows(rows)), `auto-${rows}.jsonl`)
    expect((await create({ training_file: id })).hyperparameters).toMatchObject(told)
  })

  test('fields of a start, for what OpenAI has no word for', async () => {
    const lora = { use_qlora: true, lora_r: 4 }
    const qlora = await create({
      training: { experiment_name: 'by-name', lora, save_steps: 5, dataset: { packing: true } },
    })
    expect(await jobOf(qlora.id)).toMatchObject({
      name: 'by-name',
      plan: { method: 'qlora' },
      request: { save_steps: 5, lora: { lora_r: 4, lora_target_modules: ['all-linear'] }, dataset: { packing: true } },
    })
    const full = await create({ training: { lora: { use_lora: false } } })
    expect(await jobOf(full.id)).toMatchObject({ plan: { method: 'full' }, request: { learning_rate: 2e-5 } })
    expect(full.hyperparameters.learning_rate_multiplier).toBe(1)
    const taken = await refusal(create({ training: { experiment_name: 'by-name' } }))
    expect(taken).toMatchObject({ status: 400, param: 'training.experiment_name' })
    expect(await refusal(create({ training: { lora: { lora_rank: 4 } } }))).toMatchObject({
      param: 'training.lora.lora_rank',
      message: expect.stringContaining('lora_r'),
    })
    expect(await refusal(create({ training: { dataset: { dataset_path: '/etc/passwd' } } }))).toMatchObject({
      param: 'training.dataset.dataset_path',
      message: expect.stringContaining('training_file'),
    })
  })

  test.each([
    [{ method: { type: 'dpo', dpo: {} } }, 'method.type', /dpo is not supported/],
    [{ method: { type: 'reinforcement' } }, 'method.type', /reinforcement is not supported/],
    [{ method: { type: 'magic' } }, 'method.type', /one of supervised/],
    [{ integrations: [{ type: 'wandb', wandb: { project: 'p' } }] }, 'integrations', /not supported/],
    [{ suffix: '' }, 'suffix', /not be empty/],
    [{ suffix: 'x'.repeat(65) }, 'suffix', /at most 64/],
    [{ seed: -1 }, 'seed', /at least 0/],
    [{ hyperparameters: { n_epochs: 0 } }, 'hyperparameters.n_epochs', /at least 1/],
    [{ hyperparameters: { n_epochs: 1.5 } }, 'hyperparameters.n_epochs', /whole number/],
    [{ hyperparameters: { batch_size: 'big' } }, 'hyperparameters.batch_size', /"auto" or a whole number/],
    [
      { hyperparameters: { learning_rate_multiplier: 0 } },
      'hyperparameters.learning_rate_multiplier',
      /greater than 0/,
    ],
    [
      { method: { type: 'supervised', supervised: { hyperparameters: { beta: 1 } } } },
      'method.supervised.hyperparameters.beta',
      /not a known field/,
    ],
    [{ metadata: { key: 1 } }, 'metadata.key', /must be text/],
    [{ metadata: { key: 'v'.repeat(513) } }, 'metadata.key', /at most 512/],
    [
      { metadata: { ['k'.repeat(65)]: 'v' } },
      'metadata',
      /has the key "k{65}", which must have at most 64 characters$/,
    ],
    [{ metadata: { '': 'v' } }, 'metadata', /has the key "", which must not be empty$/],
    [
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) },
      'metadata',
      /at most 16 entries/,
    ],
    [{ training_file: 'file-nowhere' }, 'training_file', /No such File/],
    [{ training_file: 'data.json' }, 'training_file', /No such File/],
    [{ validation_file: `file-${'0'.repeat(20)}` }, 'validation_file', /No such File/],
    [{ training_file: undefined }, 'training_file', /is required/],
    [{ n_epochs: 3 }, 'n_epochs', /not a known field/],
  ])('what can not be done names its parameter: %j', async (wrong, param, message) => {
    const error = await refusal(create(wrong))
    expect(error).toBeInstanceOf(OpenAI.BadRequestError)
    expect(error).toMatchObject({ param, type: 'invalid_request_error', message: expect.stringMatching(message) })
  })

  test('a model that is not there', async () => {
    const messages: string[] = []
    for (const model of ['./nobody', 'fine-tuned/nobody', 'ft:tiny:org::abc']) {
      const error = await refusal(create({ model }))
      expect(error).toBeInstanceOf(OpenAI.NotFoundError)
      expect(error).toMatchObject({ param: 'model', code: 'model_not_found' })
      messages.push(error.message)
    }
    expect(messages[2]).toContain('is called fine-tuned/NAME')
  })

  test('the same request with an Idempotency-Key is one job', async () => {
    const options = { headers: { 'Idempotency-Key': 'once' } }
    const body = { model: './tiny', training_file: training }
    const first = await client.fineTuning.jobs.create(body, options)
    expect(await client.fineTuning.jobs.create(body, options)).toEqual(first)
    const other = await refusal(client.fineTuning.jobs.create({ ...body, seed: 1 }, options))
    expect(other).toMatchObject({ status: 400, param: 'Idempotency-Key' })
  })

  test('a model that was fine-tuned here is trained further, with the same adapter', async () => {
    const first = await create({ training: { lora: { lora_r: 4 } } })
    expect(await refusal(create({ model: `fine-tuned/${(await jobOf(first.id)).name}` }))).toMatchObject({
      status: 400,
      param: 'model',
      message: expect.stringContaining('nothing'),
    })
    await finish(first.id)
    const { fine_tuned_model } = await client.fineTuning.jobs.retrieve(first.id)
    const next = await create({ model: fine_tuned_model, suffix: 'more' })
    expect(next.model).toBe(fine_tuned_model)
    expect(await jobOf(next.id)).toMatchObject({
      name: expect.stringMatching(/^tiny-more-/),
      request: { model_name: './tiny', lora: { lora_r: 4 } },
      plan: { initial: { name: fine_tuned_model } },
    })
    const of30 = await create({ model: `${fine_tuned_model}@step-30` })
    expect((await jobOf(of30.id)).plan.initial?.name).toBe(`${fine_tuned_model}@step-30`)
    expect(await refusal(create({ model: `${fine_tuned_model}@step-9` }))).toMatchObject({
      status: 404,
      param: 'model',
    })
    expect(await refusal(create({ model: fine_tuned_model, training: { lora: { lora_r: 8 } } }))).toMatchObject({
      param: 'training.lora.lora_r',
    })
  })
})

/** A job that has done its 30 steps, with an adapter in its folder and a checkpoint. */
async function finish(id: string): Promise<void> {
  const { plan } = await jobOf(id)
  const path = join(plan.outputDir, 'checkpoints', 'step-00000030')
  await mkdir(path, { recursive: true })
  for (const folder of [plan.outputDir, path])
    for (const file of ['adapters.safetensors', 'adapter_config.json']) await writeFile(join(folder, file), '{}')
  const checkpoint = {
    step: 30,
    loss: 0.5,
    validation_loss: 0.75,
    best: true,
    created_at: '2026-01-01T00:00:30Z',
    path,
  }
  await tell(
    id,
    { state: 'completed', completedAt: '2026-01-01T00:01:00.000Z' },
    [
      { type: 'prepared', data: { resumed_from_step: 0, samples: 40, tokens: 4000, total_steps: 30 } },
      { type: 'eval', data: { step: 0, loss: 3, token_accuracy: 0.125 } },
      step(1, 2),
      step(2, 1.5),
      step(3, 1.25),
      // It returned to step 1, and went on after a crash from step 2.
      { type: 'rollback', data: { step: 1, message: 'back to step 1' } },
      step(2, 1.75),
      step(3, null),
      { type: 'prepared', data: { resumed_from_step: 2, samples: 40, tokens: 4000, total_steps: 30 } },
      step(30, 0.5),
      { type: 'eval', data: { step: 30, loss: 0.75, token_accuracy: 0.5 } },
      { type: 'checkpoint', data: { step: 30, model: 'm@step-30' } },
      { type: 'state', data: { state: 'completed', reason: null } },
      { type: 'end', data: { state: 'completed', reason: null } },
    ],
    { prepared, step: stepFrame({}), checkpoints: [checkpoint] },
  )
}

describe('jobs', () => {
  let id: string
  beforeEach(async () => {
    id = (await create()).id
  })

  test('one that has succeeded tells its model, tokens and results, and its model is listed', async () => {
    await finish(id)
    const job = await client.fineTuning.jobs.retrieve(id)
    keeps('fineTuningGet', job)
    const { name } = await jobOf(id)
    const results = id.replace('ftjob-', 'file-results-')
    expect(job).toMatchObject({
      status: 'succeeded',
      fine_tuned_model: `fine-tuned/${name}`,
      finished_at: Date.parse('2026-01-01T00:01:00Z') / 1000,
      trained_tokens: 12_000,
      result_files: [results],
    })
    const csv =
      'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n' +
      '0,,,3,0.125\n1,2,,,\n2,1.75,,,\n30,0.5,,0.75,0.5\n'
    const content = await client.files.content(results)
    expect(await content.text()).toBe(csv)
    expect(content.headers.get('content-type')).toContain('text/csv')
    const file = await client.files.retrieve(results)
    expect(file).toMatchObject({ purpose: 'fine-tune-results', bytes: csv.length, filename: `${name}.csv` })
    expect((await client.files.list({ purpose: 'fine-tune-results' })).data).toContainEqual(file)
    expect((await client.files.list()).data).toContainEqual(file)
    expect(await refusal(client.files.delete(results))).toMatchObject({ status: 400, param: 'id' })
    const models = (await client.models.list()).data.map((model) => model.id)
    expect(models).toEqual(expect.arrayContaining([job.fine_tuned_model, `${job.fine_tuned_model}@step-30`]))
  })

  test('the results of a long job are whole, and their size is told anew when it goes on', async () => {
    const steps = (from: number, count: number) => Array.from({ length: count }, (_, i) => step(from + i, 1))
    const completedAt = '2026-01-01T00:01:00Z'
    await tell(id, { state: 'stopped', completedAt }, steps(1, 2500), { step: stepFrame({}) })
    const results = id.replace('ftjob-', 'file-results-')
    const size = async () => {
      const { bytes } = await client.files.retrieve(results)
      const text = await (await client.files.content(results)).text()
      expect(bytes).toBe(text.length)
      const head = await fetch(`${url}/v1/files/${results}/content`, {
        method: 'HEAD',
        headers: { 'x-api-key': ADMIN },
      })
      expect([head.status, head.headers.get('content-length')]).toEqual([200, String(bytes)])
      return text.trim().split('\n').length
    }
    expect(await size()).toBe(2501)
    await tell(id, {}, steps(2501, 10))
    expect(await size()).toBe(2511)
  })

  test('every state has its word, and what goes with it', async () => {
    const told = async () => {
      const job = await client.fineTuning.jobs.retrieve(id)
      keeps('fineTuningGet', job)
      return job
    }
    await tell(id, { state: 'preparing' })
    expect((await told()).status).toBe('validating_files')
    await tell(id, { state: 'running' }, [], { prepared, step: stepFrame({ step: 3, seconds_remaining: 100 }) })
    const running = await told()
    expect(running).toMatchObject({ status: 'running', fine_tuned_model: null, trained_tokens: null, result_files: [] })
    expect(Math.abs((running.estimated_finish ?? 0) - Date.now() / 1000 - 100)).toBeLessThan(600)
    // After a crash, or when it is being cancelled, it is still at work.
    await tell(id, { state: 'preparing' })
    expect(await told()).toMatchObject({ status: 'running', estimated_finish: null })
    await tell(id, { state: 'stopping' })
    expect((await told()).status).toBe('running')
    await tell(id, { state: 'paused' })
    expect((await told()).status).toBe('paused')
    const checkpoints = [{ step: 3, loss: 1, validation_loss: null, best: false, created_at: '', path: '/nowhere' }]
    await tell(id, { state: 'stopped', completedAt: '2026-01-01T00:01:00Z' }, [], { checkpoints })
    expect(await told()).toMatchObject({
      status: 'cancelled',
      fine_tuned_model: `fine-tuned/${(await jobOf(id)).name}`,
    })
    await tell(id, { state: 'failed', reason: 'too little memory' }, [], { checkpoints: [] })
    expect(await told()).toMatchObject({
      status: 'failed',
      fine_tuned_model: null,
      error: { code: 'training_failed', message: 'too little memory', param: null },
    })
  })

  test('one that was started under /train is here, with null for what it lacks', async () => {
    await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(20)))
    const start = await service.call('POST', '/train/start', {
      experiment_name: 'of-train',
      model_name: './tiny',
      dataset: { dataset_path: 'data.json', batch_size: 2 },
      gradient_accumulation_steps: 3,
      learning_rate: 1e-5,
    })
    expect(start.status, JSON.stringify(start.body)).toBe(200)
    const job = await client.fineTuning.jobs.retrieve(start.body.job_id.replace('job_', 'ftjob-'))
    keeps('fineTuningGet', job)
    expect(job).toMatchObject({
      training_file: null,
      metadata: null,
      hyperparameters: { n_epochs: 3, batch_size: 6, learning_rate_multiplier: 0.5 },
    })
    // Its id is its own: another of that name is another job.
    await service.call('POST', '/train/of-train/stop')
    await service.call('DELETE', '/train/of-train')
    expect(await refusal(client.fineTuning.jobs.retrieve(job.id))).toMatchObject({ code: 'fine_tune_not_found' })
  })

  test('lists: pages, metadata', async () => {
    const tagged: string[] = []
    for (const batch of ['a', 'b', 'a']) tagged.unshift((await create({ metadata: { batch, list: 'yes' } })).id)
    const ids = async (query: object) => (await client.fineTuning.jobs.list(query)).data.map((job) => job.id)
    keeps('fineTuningList', await raw('/v1/fine_tuning/jobs'))
    expect((await ids({})).slice(0, 4)).toEqual([...tagged, id])
    expect(await ids({ metadata: { list: 'yes' } })).toEqual(tagged)
    expect(await ids({ metadata: { list: 'yes', batch: 'a' } })).toEqual([tagged[0], tagged[2]])
    expect(await ids({ metadata: { list: 'no' } })).toEqual([])
    expect(await ids({ metadata: { toString: 'x' } })).toEqual([])
    const none = (await raw('/v1/fine_tuning/jobs?metadata=null')).data.map((job: { id: string }) => job.id)
    expect(none).toContain(id)
    expect(none).not.toEqual(expect.arrayContaining([tagged[0]]))
    const page = await client.fineTuning.jobs.list({ limit: 2, metadata: { list: 'yes' } })
    expect(page.has_more).toBe(true)
    const next = await page.getNextPage()
    expect([next.has_more, next.data.map((job) => job.id)]).toEqual([false, [tagged[2]]])
    const all: string[] = []
    for await (const job of client.fineTuning.jobs.list({ limit: 7 })) all.push(job.id)
    expect(all).toEqual((await service.jobs.list()).map((job) => job.id.replace('job_', 'ftjob-')))
    expect(await refusal(ids({ after: 'ftjob-0000000000000000' }))).toMatchObject({ status: 400, param: 'after' })
    expect(await refusal(ids({ limit: 0 }))).toMatchObject({ status: 400, param: 'limit' })
    expect(await refusal(ids({ offset: 0 }))).toMatchObject({ status: 400, param: 'offset' })
  })

  test('events: newest first, page by page, metrics by OpenAI’s names', async () => {
    await finish(id)
    await tell(id, {}, [
      { type: 'stage', data: { stage: 'loading_model', done: 1, total: 2 } },
      { type: 'sample', data: { step: 1, prompt: 'q', base: 'b', tuned: 't' } },
      { type: 'memory', data: { level: 1, message: 'smaller pieces' } },
      { type: 'warning', data: { code: 'c', message: 'careful' } },
      { type: 'verified', data: { ok: false, message: 'no difference' } },
      { type: 'log', data: { lines: ['one', 'two'] } },
      { type: 'state', data: { state: 'failed', reason: 'because' } },
    ])
    const all: OpenAI.FineTuning.FineTuningJobEvent[] = []
    for await (const event of client.fineTuning.jobs.listEvents(id, { limit: 4 })) all.push(event)
    keeps('fineTuningEvents', await raw(`/v1/fine_tuning/jobs/${id}/events`))
    const { lastEventId } = await jobOf(id)
    const number = (event: { id: string }) => Number(event.id.split('-').at(-1))
    expect(all.map(number)).toEqual(Array.from({ length: lastEventId }, (_, i) => lastEventId - i))
    expect(all.toReversed().map(({ level, message }) => `${level} ${message}`)).toEqual([
      'info Fine-tuning job is queued',
      'info Files are fine: 40 rows, 4000 tokens an epoch, 30 steps',
      'info Step 0: full validation loss=3.000',
      'info Step 1/30: training loss=2.000',
      'info Step 2/30: training loss=1.500',
      'info Step 3/30: training loss=1.250',
      'warn back to step 1',
      'info Step 2/30: training loss=1.750',
      'info Step 3/30: training loss=none (skipped)',
      'info Files are fine: 40 rows, 4000 tokens an epoch, 30 steps',
      'info Step 30/30: training loss=0.5000',
      'info Step 30: full validation loss=0.7500',
      'info Checkpoint created at step 30: m@step-30',
      'info The job has successfully completed',
      `info New fine-tuned model created: fine-tuned/${(await jobOf(id)).name}`,
      'info Preparing: loading model (1 of 2)',
      'info Step 1: asked "q", it answers "t"',
      'warn smaller pieces',
      'warn careful',
      'warn no difference',
      'warn one\ntwo',
      'error The job failed: because',
    ])
    const metrics = all.filter(({ type }) => type === 'metrics').map(({ data }) => data)
    expect(metrics[1]).toMatchObject({ step: 30, total_steps: 30, train_loss: 0.5 })
    expect(metrics[0]).toMatchObject({ step: 30, full_valid_loss: 0.75, full_valid_mean_token_accuracy: 0.5 })
    const first = await client.fineTuning.jobs.listEvents(id)
    expect([first.data.length, first.has_more]).toEqual([20, true])
    for (const after of ['ftevent-x', 'ftevent-0000000000000000-1', `${all[0]?.id.replace(/\d+$/, '')}999`])
      expect(await refusal(client.fineTuning.jobs.listEvents(id, { after }).then())).toMatchObject({
        status: 400,
        param: 'after',
      })
  })

  test('checkpoints: those that are there', async () => {
    expect((await client.fineTuning.jobs.checkpoints.list(id)).data).toEqual([])
    await finish(id)
    const gone = { step: 20, loss: 1, validation_loss: null, best: false, created_at: '', path: '/nowhere' }
    const { progress, name, plan } = await jobOf(id)
    const path = join(plan.outputDir, 'checkpoints', 'step-00000010')
    await mkdir(path)
    for (const file of ['adapters.safetensors', 'adapter_config.json']) await writeFile(join(path, file), '{}')
    const early = { ...gone, step: 10, path, created_at: '2026-01-01T00:00:10Z' }
    await tell(id, {}, [], { checkpoints: [early, gone, ...progress.checkpoints] })
    const body = await raw(`/v1/fine_tuning/jobs/${id}/checkpoints`)
    keeps('fineTuningCheckpoints', body)
    const [last, first] = body.data
    expect(body.data).toHaveLength(2)
    expect(body).toMatchObject({ first_id: last.id, last_id: first.id, has_more: false })
    expect(last).toMatchObject({
      fine_tuning_job_id: id,
      fine_tuned_model_checkpoint: `fine-tuned/${name}@step-30`,
      step_number: 30,
      created_at: Date.parse('2026-01-01T00:00:30Z') / 1000,
      metrics: {
        step: 30,
        train_loss: 0.5,
        train_mean_token_accuracy: null,
        valid_loss: 0.75,
        valid_mean_token_accuracy: 0.5,
        full_valid_loss: 0.75,
        full_valid_mean_token_accuracy: 0.5,
      },
    })
    expect(first.metrics).toMatchObject({ valid_loss: null, valid_mean_token_accuracy: null })
    const paged: number[] = []
    for await (const { step_number } of client.fineTuning.jobs.checkpoints.list(id, { limit: 1 }))
      paged.push(step_number)
    expect(paged).toEqual([30, 10])
    const after = client.fineTuning.jobs.checkpoints.list(id, { after: 'ftckpt_x' }).then()
    expect(await refusal(after)).toMatchObject({ status: 400, param: 'after' })
  })

  test('pause, resume, cancel; and what is not possible is not tried again', async () => {
    const { jobs } = client.fineTuning
    expect(await jobs.pause(id)).toMatchObject({ id, status: 'paused' })
    expect(await jobs.resume(id)).toMatchObject({ id, status: 'queued' })
    const inUse = await refusal(client.files.delete(training))
    expect(inUse).toMatchObject({ status: 400, param: 'id', message: expect.stringContaining('has not ended') })
    const cancelled = await jobs.cancel(id)
    keeps('fineTuningCancel', cancelled)
    expect(cancelled).toMatchObject({ status: 'cancelled', fine_tuned_model: null, trained_tokens: 0 })
    expect(cancelled.finished_at).not.toBeNull()
    const again = await refusal(jobs.cancel(id))
    expect(again).toBeInstanceOf(OpenAI.BadRequestError)
    expect(again).toMatchObject({ param: 'fine_tune_id', message: expect.stringContaining('is stopped') })
    expect((await jobs.resume(id)).status).toBe('queued')
  })

  test('a cancel waits until the job has stopped', async () => {
    await tell(id, { state: 'running' })
    const asked = client.fineTuning.jobs.cancel(id)
    const seen = new Promise<void>((resolve) => service.notifier.subscribe('commands', () => resolve()))
    await seen
    const { id: jobId } = await jobOf(id)
    await service.store.update(jobId, null, () => ({
      change: { state: 'stopped', intent: 'run', completedAt: '2026-01-01T00:01:00Z' },
      events: [{ type: 'end', data: { state: 'stopped', reason: null } }],
    }))
    service.notifier.publish('events', jobId)
    expect(await asked).toMatchObject({ status: 'cancelled' })
  })

  test('unknown ids', async () => {
    const { jobs } = client.fineTuning
    for (const unknown of ['ftjob-0000000000000000', 'ftjob-', 'nonsense'])
      for (const ask of [
        () => jobs.retrieve(unknown),
        () => jobs.cancel(unknown),
        () => jobs.pause(unknown),
        () => jobs.resume(unknown),
        () => jobs.listEvents(unknown),
        () => jobs.checkpoints.list(unknown),
      ]) {
        const error = await refusal(Promise.resolve(ask()))
        expect(error).toBeInstanceOf(OpenAI.NotFoundError)
        expect(error).toMatchObject({ code: 'fine_tune_not_found', param: 'fine_tune_id' })
      }
  })
})

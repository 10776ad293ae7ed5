import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Evaluation } from '@mlx-training/contract'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { pendingResult } from '../../src/evaluation/results.ts'
import { contractErrors, createService, putModel, type Service } from '../http/service.ts'
import { evaluationRecord } from '../store/evaluations.ts'

// Everything is real but the engine's process, whose losses are made up: see ../http/engine.mjs.
vi.setConfig({ testTimeout: 60_000 })
let service: Service
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await service.engine.ready()
  await putModel(join(service.folder, 'tiny'))
  await putModel(join(service.folder, 'other'))
  await writeFile(
    join(service.folder, 'data.json'),
    JSON.stringify(
      Array.from({ length: 6 }, (_, i) => ({
        instruction: `Say number ${i}\u2028`,
        output: `echo user: Say number ${i}`,
      })),
    ),
  )
  await service.call('POST', '/train/start', {
    experiment_name: 'mine',
    model_name: './tiny',
    lora: { use_lora: true },
    dataset: { dataset_path: 'data.json' },
    output_dir: 'mine',
  })
  const job = await service.jobs.get('mine')
  const path = join(service.folder, 'mine')
  await putAdapter(path)
  await service.store.update(job?.id ?? '', null, ({ progress }) => ({
    change: {
      state: 'completed',
      completedAt: '2026-01-01T00:00:00Z',
      progress: {
        ...progress,
        checkpoints: [
          { step: 5, path, loss: 1, validation_loss: null, best: true, created_at: '2026-01-01T00:00:00Z' },
        ],
      },
    } as object,
    events: [],
  }))
}, 60_000)
afterAll(() => service?.close(), 60_000)

async function putAdapter(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const name of ['adapters.safetensors', 'adapter_config.json']) await writeFile(join(folder, name), '{}')
}

const start = (change: object = {}, dataset: object = {}) =>
  service.call('POST', '/evaluate', {
    models: ['./tiny', 'fine-tuned/mine'],
    dataset: { dataset_path: 'data.json', ...dataset },
    ...change,
  })
const get = async (id: string): Promise<Evaluation> => (await service.call('GET', `/evaluate/${id}`)).body
const begun = async (change?: object, dataset?: object): Promise<string> => {
  const { status, body } = await start(change, dataset)
  expect(status, JSON.stringify(body)).toBe(202)
  expect(contractErrors('evaluateStart', body)).toEqual([])
  return body.id
}
const ENDED = ['completed', 'failed', 'cancelled', 'interrupted']
const ended = (id: string) =>
  vi.waitFor(
    async () => {
      const found = await get(id)
      expect(contractErrors('evaluateGet', found)).toEqual([])
      expect(ENDED).toContain(found.state)
      return found
    },
    { timeout: 30_000, interval: 50 },
  )

test('base against tuned: losses with their errors, and the difference row by row', async () => {
  const found = await ended(await begun())
  expect(found).toMatchObject({
    state: 'completed',
    reason: null,
    dataset_rows: 6,
    queue_position: null,
    progress: null,
  })
  const [base, tuned] = found.results
  expect(base).toMatchObject({
    state: 'completed',
    rows: 6,
    rows_dropped: 1,
    trained_tokens: 24,
    loss: { value: 2.75, standard_error: expect.closeTo(Math.sqrt(3.5 / 6), 12) },
    perplexity: expect.closeTo(Math.exp(2.75), 9),
    token_accuracy: { value: 0.5 },
    difference: null,
    generated: null,
  })
  expect(tuned).toMatchObject({
    loss: { value: 2.5 },
    difference: {
      loss: { value: expect.closeTo(-0.25, 12), standard_error: expect.closeTo(0, 12) },
      token_accuracy: { value: 0.25 },
      rows: 6,
      better: 6,
      worse: 0,
    },
  })
  expect(found.warnings[0]).toMatch(/^fine-tuned\/mine was trained on this very data set/)
  expect(found.samples[0]).toMatchObject({ why: 'worst', prompt: expect.stringMatching(/^Say number \d/) })
  expect(found.samples.map(({ sample }) => sample)).toContain(5)
})

test('with generate the models answer rows, and the answers are scored', async () => {
  const found = await ended(await begun({ generate: true, generate_samples: 4, max_tokens: 8 }))
  expect(found.state).toBe('completed')
  for (const { generated } of found.results)
    expect(generated).toMatchObject({
      rows: 4,
      failed: 0,
      scores: { exact_match: { value: 1 }, rouge_l: { value: 1 } },
    })
  expect(found.results[1]?.generated?.difference).toMatchObject({ rouge_l: { value: 0 }, same: 4 })
  const shown = found.samples.find(({ why }) => why === 'improved')
  expect(shown?.models[0]).toMatchObject({ text: expect.stringMatching(/^echo user: Say number/), scores: { chrf: 1 } })
})

test('one model that fails is told in its place; when all do, the evaluation has failed', async () => {
  const some = await ended(await begun({}, { max_seq_length: 1015 }))
  expect(some).toMatchObject({
    state: 'completed',
    reason: '1 of 2 models failed: fine-tuned/mine: no adapter',
  })
  const { body } = await service.call('GET', '/evaluate?limit=1')
  expect(body.evaluations[0]).toMatchObject({ id: some.id, models_failed: 1 })
  expect(some.results.map(({ state, error }) => [state, error])).toEqual([
    ['completed', null],
    ['failed', 'no adapter'],
  ])
  const none = await ended(await begun({}, { max_seq_length: 1013 }))
  expect(none).toMatchObject({ state: 'failed', reason: 'nothing would be learned of any row' })
})

test('where memory runs out it is tried again in smaller pieces', async () => {
  const found = await ended(await begun({ models: ['./tiny'] }, { max_seq_length: 1016 }))
  expect(found.state).toBe('completed')
  const log = await readFile(join(service.config.home, 'runs', 'evaluation', 'engine.log'), 'utf8')
  expect(log).toContain('level 2')
})

test('a process that ends without a word is begun again, once', async () => {
  const found = await ended(await begun({ models: ['./tiny'] }, { max_seq_length: 1017 }))
  expect(found).toMatchObject({ state: 'completed', reason: null })
  expect(found.results[0]?.warnings[0]).toMatch(/ended from outside by SIGTERM: it was tried again$/)
  const twice = await ended(await begun({ models: ['./tiny'] }, { max_seq_length: 1018 }))
  expect(twice).toMatchObject({ state: 'failed', reason: expect.stringContaining('SIGTERM') })
})

test('losses that are not finite make no mean', async () => {
  const found = await ended(await begun({ seed: 1_234_568 }))
  expect(found.results[0]).toMatchObject({ loss: null, perplexity: null, token_accuracy: { value: 0.5 } })
  expect(found.results[0]?.warnings).toContain('The loss of 1 of 6 rows is not finite')
})

test.each([
  [{ models: ['./tiny', 'nowhere'] }, {}, 404, 'models.1'],
  [{ models: ['fine-tuned/none'] }, {}, 404, 'models.0'],
  [{ models: ['./tiny', 'openai/gpt-4.1'] }, {}, 400, 'models.1'],
  [{}, { dataset_path: 'gone.json' }, 404, 'dataset.dataset_path'],
  [{}, { held_out: 0.9 }, 422, 'dataset.held_out'],
  [{ models: [] }, {}, 422, 'models'],
])('%j %j is refused', async (change, dataset, status, field) => {
  const answer = await start(change, dataset)
  expect(answer.status, JSON.stringify(answer.body)).toBe(status)
  expect(answer.body.errors.map((error: { field: string }) => error.field)).toEqual([field])
})

test('a row that is wrong is named', async () => {
  await writeFile(join(service.folder, 'bad.json'), '[{"instruction": "a", "output": "b"}, {"instruction": 3}]')
  const { status, body } = await start({}, { dataset_path: 'bad.json' })
  expect(status).toBe(400)
  expect(body.detail).toMatch(/Sample 1/)
})

test('one runs at a time; the others wait, and either can be cancelled and then deleted', async () => {
  const holding = await begun({ models: ['./tiny'] }, { max_seq_length: 1014 })
  const waiting = await begun()
  await vi.waitFor(async () =>
    expect((await get(holding)).progress).toMatchObject({ stage: 'evaluating', done: 1, total: 4 }),
  )
  expect(await get(waiting)).toMatchObject({ state: 'queued', queue_position: 0, started_at: null })
  const third = await begun()
  expect(await get(third)).toMatchObject({ state: 'queued', queue_position: 1 })
  const { body } = await service.call('GET', '/evaluate?limit=2')
  expect(contractErrors('evaluateList', body)).toEqual([])
  expect(body.evaluations.map(({ id }: { id: string }) => id)).toEqual([third, waiting])
  const more = (await service.call('GET', `/evaluate?limit=1&after=${body.next}`)).body
  expect(more.evaluations[0]).toMatchObject({ id: holding, state: 'running' })

  const cancel = (id: string) => service.call('POST', `/evaluate/${id}/cancel`)
  const remove = (id: string) => service.call('DELETE', `/evaluate/${id}`)
  expect((await remove(holding)).status).toBe(409)
  const used = await service.call('DELETE', '/train/mine')
  expect(used.status).toBe(409)
  expect(used.body.detail).toContain(`Evaluation ${waiting} is queued and uses experiment "mine"`)
  const cancelled = { state: 'cancelled', queue_position: null }
  expect((await cancel(waiting)).body).toEqual({ id: waiting, ...cancelled })
  expect((await get(waiting)).results.map(({ state, error }) => [state, error])).toEqual([
    ['cancelled', null],
    ['cancelled', null],
  ])
  // Again, as when the first answer was lost.
  for (let i = 0; i < 2; i++) expect((await cancel(holding)).body).toEqual({ id: holding, ...cancelled })
  expect(await get(holding)).toMatchObject({ state: 'cancelled', completed_at: expect.any(String) })
  expect((await ended(third)).state).toBe('completed')
  expect((await cancel(third)).body.state).toBe('completed')
  expect((await remove(holding)).body).toEqual({ id: holding, deleted: true, state: 'cancelled' })
  for (const method of ['GET', 'DELETE'] as const)
    expect((await service.call(method, `/evaluate/${holding}`)).status).toBe(404)
})

test('of what a server that is gone left, one at work is told as interrupted, and one that waited is run', async () => {
  const request = (await get(await begun({ models: ['./tiny'] }))).request
  const of = { models: ['./tiny'], results: [pendingResult('./tiny')], request }
  const [running, queued] = [evaluationRecord(1, { state: 'running', ...of }), evaluationRecord(2, of)]
  for (const each of [running, queued]) await service.store.evaluations.insert(each)
  await service.evaluations.start()
  const found = await get(running.id)
  expect(found).toMatchObject({ state: 'interrupted', reason: expect.stringContaining('server was restarted') })
  expect(found.results[0]?.state).toBe('interrupted')
  expect(await ended(queued.id)).toMatchObject({ state: 'completed', dataset_rows: 6 })
})

test('a server that closes interrupts what runs, keeps what waits, and leaves no process', async () => {
  const own = await createService({ engine: 'echo' })
  try {
    await own.engine.ready()
    await putModel(join(own.folder, 'tiny'))
    await writeFile(join(own.folder, 'data.json'), '[{"instruction": "a", "output": "b"}]')
    const body = { models: ['./tiny'], dataset: { dataset_path: 'data.json', max_seq_length: 1014 } }
    const ids: string[] = []
    for (let i = 0; i < 2; i++) ids.push((await own.call('POST', '/evaluate', body)).body.id)
    await vi.waitFor(async () =>
      expect((await own.call('GET', `/evaluate/${ids[0]}`)).body.progress?.stage).toBe('evaluating'),
    )
    await own.evaluations.close()
    const states = await Promise.all(ids.map(async (id) => (await own.store.evaluations.get(id))?.state))
    expect(states).toEqual(['interrupted', 'queued'])
    expect((await own.call('POST', '/evaluate', body)).status).toBe(503)
  } finally {
    await own.close()
  }
})

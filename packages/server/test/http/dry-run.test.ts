/** POST /train/estimate, and what a start makes of what it measured. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../engine/fake.ts'
import { ADMIN, alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let url: string
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await putModel(join(service.folder, 'tiny-4bit'), { quantized: true })
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(1000)))
  await writeFile(join(service.folder, 'other.json'), JSON.stringify(alpacaRows(500)))
  url = await service.app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(() => service.close())

const REQUEST = { model_name: './tiny', lora: { use_lora: true }, dataset: { dataset_path: 'data.json' } }
const estimate = (change: object = {}) => service.call('POST', '/train/estimate', { ...REQUEST, ...change })
const start = async (name: string, change: object = {}) => {
  const { body } = await service.call('POST', '/train/start', { ...REQUEST, experiment_name: name, ...change })
  return body.estimated_seconds
}

test('tells what the engine measured, and starts nothing', async () => {
  const { status, body } = await estimate()
  expect(status, JSON.stringify(body)).toBe(200)
  expect(contractErrors('trainEstimate', body)).toEqual([])
  expect(body).toEqual({
    estimated_time: 'about 2 hours',
    estimated_seconds: 7000,
    fits: true,
    advice: ['rest'],
    total_steps: 750,
    steps_per_epoch: 250,
    samples: 1000,
    samples_dropped: 0,
    samples_truncated: 5,
    tokens: 90_000,
    trained_tokens: 50_000,
    longest_sample: 512,
    padding_share: 0.02,
    measured_steps: 3,
    seconds_per_step: 9.3,
    tokens_per_second: 39,
    peak_memory_mb: 2100,
    available_memory_mb: 16_000,
    trainable_params: 16,
    total_params: 256,
    target_modules: ['q_proj'],
    warnings: ['careful'],
  })
  expect(await service.jobs.list()).toEqual([])
})

test('a request for a start is one for an estimate', async () => {
  await mkdir(join(service.folder, 'outputs', 'taken'), { recursive: true })
  await writeFile(join(service.folder, 'outputs', 'taken', 'thesis.tex'), 'x')
  const { status } = await estimate({ experiment_name: 'taken', output_dir: 'outputs/taken', overwrite: false })
  expect(status).toBe(200)
})

test.each([
  [{ dataset: { dataset_path: 'none.json' } }, 404, 'dataset.dataset_path'],
  [{ model_name: './nothing' }, 404, 'model_name'],
  [{ model_name: './tiny-4bit', lora: { use_lora: false } }, 400, 'lora.use_lora'],
  [{ epochs: 0 }, 422, 'epochs'],
])('what would not start is not estimated: %j', async (change, status, field) => {
  const answer = await estimate(change)
  expect([answer.status, answer.body.errors[0].field]).toEqual([status, field])
})

test('one at a time; a client that leaves ends its own', async () => {
  const leaving = new AbortController()
  const waiting = fetch(`${url}/train/estimate`, {
    method: 'POST',
    headers: { 'x-api-key': ADMIN, 'content-type': 'application/json' },
    body: JSON.stringify({ ...REQUEST, seed: 1_234_567 }),
    signal: leaving.signal,
  }).catch(() => 'left')
  const log = join(service.config.home, 'runs', 'estimate', 'engine.log')
  await until(async () => (await readFile(log, 'utf8').catch(() => '')).includes('holding'))
  let second = await estimate()
  expect(second).toMatchObject({ status: 503, body: { detail: expect.stringContaining('Another estimate') } })
  expect(Number(second.headers['retry-after'])).toBeGreaterThan(0)
  leaving.abort()
  expect(await waiting).toBe('left')
  while (second.status === 503) second = await estimate()
  expect(second.status).toBe(200)
})

test('without an engine: 503', async () => {
  const bare = await createService()
  const { status, body } = await bare.call('POST', '/train/estimate', REQUEST)
  expect([status, body.error_type]).toEqual([503, 'ServiceUnavailableError'])
  await bare.close()
})

test('a job that is at work as well is told, and the measurement not kept', async () => {
  await service.call('POST', '/train/start', { ...REQUEST, experiment_name: 'busy' })
  const job = await service.jobs.get('busy')
  await service.store.update(job?.id ?? '', null, () => ({ change: { state: 'running' }, events: [] }))
  const { body } = await estimate({ lora: { use_lora: true, lora_r: 3 } })
  expect(body.warnings).toEqual(['careful', expect.stringMatching(/^A training job is at work/)])
  await service.store.update(job?.id ?? '', null, () => ({ change: { state: 'stopped' }, events: [] }))
  expect(await start('after', { lora: { use_lora: true, lora_r: 3 } })).toBeLessThan(100)
})

test('a start goes by what was measured before, exactly for the same data, by its size for other data', async () => {
  await estimate({ epochs: 2 })
  // 90,000 tokens an epoch took 3495 s; the process starts in 10.
  expect(await start('same', { epochs: 1 })).toBe(3505)
  expect(await start('short', { epochs: 1, max_steps: 25 })).toBe(Math.round(10 + 349.5))
  const other = await start('other', { epochs: 1, dataset: { dataset_path: 'other.json' } })
  const bytes = JSON.stringify(alpacaRows(500)).length
  expect(other).toBe(Math.round(10 + ((bytes / 4) * 3495) / 90_000))
  expect(await start('rank', { epochs: 1, lora: { use_lora: true, lora_r: 2 } })).toBeLessThan(100)
})

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { alpacaRows, createService, putModel, type Service } from './service.ts'

let service: Service
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(20)))
})
afterAll(() => service.close())

const start = (experiment_name: string, change: object, dataset: object = {}) =>
  service.call('POST', '/train/start', {
    experiment_name,
    model_name: './tiny',
    dataset: { dataset_path: 'data.json', ...dataset },
    ...change,
  })

test("fields that don't go together are refused, and nothing is queued", async () => {
  const { status, body } = await start('bad', { eval_steps: 5, lora: { use_dora: true } })
  expect(status).toBe(400)
  expect(body).toMatchObject({ status_code: 400, error_type: 'ValidationError' })
  expect(body.errors.map(({ field }: { field: string }) => field)).toEqual(['eval_steps', 'lora.use_dora'])
  expect(await service.jobs.get('bad')).toBeNull()
  const both = await start('bad', {}, { validation_path: 'data.json', validation_split: 0.1 })
  expect(both.body.detail).toMatch(/^dataset\.validation_split holds out rows of dataset_path, but validation_path/)
})

test('fields that do are kept for the engine', async () => {
  const lora = { use_lora: true, use_dora: true }
  const { status, body } = await start('good', { eval_steps: 5, lora }, { validation_split: 0.1, loss_on: 'all' })
  expect(status, JSON.stringify(body)).toBe(200)
  const job = await service.jobs.get('good')
  expect(job?.request).toMatchObject({ eval_steps: 5, dataset: { validation_split: 0.1, loss_on: 'all' } })
  expect(job?.plan.validation).toBeNull()
})

test('more ranks than the machine has cores are refused', async () => {
  const { status, body } = await start('crowd', { ranks: 64 })
  expect(status).toBe(400)
  expect(body.errors).toMatchObject([{ field: 'ranks', message: expect.stringContaining('at most one rank a core') }])
})

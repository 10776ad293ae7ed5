import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import type { NewEvent } from '../../src/store/port.ts'
import { alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let job: Job
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(20)))
  const started = await service.call('POST', '/train/start', {
    experiment_name: 'mine',
    model_name: './tiny',
    lora: { use_qlora: true, lora_r: 4 },
    dataset: { dataset_path: 'data.json' },
    seed: 7,
  })
  expect(started.status, JSON.stringify(started.body)).toBe(200)
  job = (await service.jobs.get('mine')) as Job
  const step = (step: number): NewEvent => ({
    type: 'step',
    data: { step, epoch: 1, loss: step === 3 ? null : 1 / step, smoothed_loss: 0.123456789, memory_mb: 512 },
  })
  const events = Array.from({ length: 1200 }, (_, i) => step(i + 1))
  events.splice(600, 0, { type: 'rollback', data: { step: 500, learning_rate_scale: 0.5, message: 'back' } })
  await service.store.update(job.id, null, () => ({ change: {}, events }))
})
afterAll(() => service.close())

const history = async (query = '') => {
  const { body } = await service.call('GET', `/train/mine/history${query}`)
  expect(contractErrors('trainHistory', body)).toEqual([])
  return body
}

test('steps in columns, all other events as they are, each in order', async () => {
  const { steps, events, last_event, more, job_id } = await history()
  expect(job_id).toBe(job.id)
  expect(more).toBe(false)
  expect(events.map((event: { type: string }) => event.type)).toEqual(['state', 'rollback'])
  expect(steps.step).toEqual(Array.from({ length: 1200 }, (_, i) => i + 1))
  expect(steps.loss.slice(0, 4)).toEqual([1, 0.5, null, 0.25])
  expect(steps.smoothed_loss[0]).toBe(0.123457)
  expect(steps.grad_norm[0]).toBeNull()
  expect(Math.abs(steps.at[0] - Date.now())).toBeLessThan(600_000)
  expect(last_event).toBe(1202)
  for (const column of Object.values(steps)) expect(column).toHaveLength(1200)
})

test('page by page it is the same as at once; after the end there is nothing, after a replacement all of it', async () => {
  const whole = await history()
  const ids: number[] = []
  let page = await history('?limit=500')
  for (;;) {
    ids.push(...[...page.steps.id, ...page.events.map(({ id }: { id: number }) => id)].sort((a, b) => a - b))
    if (!page.more) break
    page = await history(`?limit=500&after=${page.last_event}`)
  }
  expect(ids).toEqual(Array.from({ length: 1202 }, (_, i) => i + 1))
  const nothing = await history(`?after=${whole.last_event}`)
  expect(nothing).toMatchObject({ last_event: whole.last_event, more: false, events: [] })
  expect(nothing.steps.id).toEqual([])
  expect(await history('?after=99999')).toEqual(whole)
  expect((await service.call('GET', '/train/none/history')).status).toBe(404)
  expect((await service.call('GET', '/train/mine/history?limit=0')).status).toBe(422)
})

test('the list tells how far each is and the shape of its loss', async () => {
  await service.store.update(job.id, null, ({ progress }) => ({
    change: { progress: { ...progress, curve: { every: 2, points: [[2, 1.5] as [number, number], [4, 1.25]] } } },
    events: [],
  }))
  const { body } = await service.call('GET', '/train')
  expect(contractErrors('trainList', body)).toEqual([])
  expect(body.training_jobs[0]).toMatchObject({
    method: 'qlora',
    dataset: 'data.json',
    current_step: 0,
    total_steps: 0,
    tokens_per_second: 0,
    best_validation_loss: null,
    estimated_seconds_remaining: null,
    loss_curve: [1.5, 1.25],
  })
})

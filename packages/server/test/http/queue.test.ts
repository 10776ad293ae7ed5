import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JobState } from '@mlx-training/contract'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(20)))
})
afterAll(() => service.close())

const start = (name: string, change: object = {}) =>
  service.call('POST', '/train/start', {
    experiment_name: name,
    model_name: './tiny',
    lora: { use_lora: true },
    dataset: { dataset_path: 'data.json' },
    ...change,
  })
const becomes = async (name: string, state: JobState) => {
  const job = await service.jobs.get(name)
  const completedAt = state === 'completed' ? '2026-01-01T00:00:00Z' : null
  await service.store.update(job?.id ?? '', null, () => ({ change: { state, completedAt }, events: [] }))
}
const queue = async () => {
  const { body } = await service.call('GET', '/train')
  expect(contractErrors('trainList', body)).toEqual([])
  const waiting: { experiment_name: string; queue_position: number | null }[] = body.training_jobs.filter(
    (job: { queue_position: number | null }) => job.queue_position !== null,
  )
  return waiting.sort((a, b) => Number(a.queue_position) - Number(b.queue_position)).map((job) => job.experiment_name)
}

describe('the queue', () => {
  beforeEach(async () => {
    for (const { name } of await service.jobs.list()) await service.store.removeJob(name, () => {})
  })

  test('is by priority, then by age, and is told the same everywhere', async () => {
    const positions = []
    for (const [name, priority] of [
      ['a', 0],
      ['b', 0],
      ['urgent', 10],
      ['idle', -10],
    ] as const)
      positions.push((await start(name, { priority })).body.queue_position)
    expect(positions).toEqual([0, 1, 0, 3])
    expect(await queue()).toEqual(['urgent', 'a', 'b', 'idle'])
    for (const [position, name] of (await queue()).entries()) {
      const { body } = await service.call('GET', `/train/${name}/status`)
      expect(body).toMatchObject({ queue_position: position, estimated_start: expect.stringMatching(/^20/) })
    }
    const { body } = await service.call('GET', '/train/urgent/status')
    expect(body.priority).toBe(10)
    const claimed = []
    for (let left = 4; left > 0; left--) {
      const job = await service.store.claim(({ attempt }) => ({
        change: { state: 'preparing', attempt: attempt + 1 },
        events: [],
      }))
      claimed.push(job?.name)
    }
    expect(claimed).toEqual(['urgent', 'a', 'b', 'idle'])
  })

  test('a waiting job is moved, any other is not', async () => {
    for (const name of ['a', 'b', 'c']) await start(name)
    const { status, body } = await service.call('POST', '/train/c/priority', { priority: 1 })
    expect(status).toBe(200)
    expect(contractErrors('trainPriority', body)).toEqual([])
    expect(body).toMatchObject({ experiment_name: 'c', status: 'queued', priority: 1, queue_position: 0 })
    expect(body.message).toBe('Next to run')
    const back = await service.call('POST', '/train/a/priority', { priority: -1 })
    expect(back.body.message).toBe('Runs after 2 other jobs')
    expect(await queue()).toEqual(['c', 'b', 'a'])
    for (const state of ['running', 'paused', 'completed'] as const) {
      await becomes('b', state)
      const refused = await service.call('POST', '/train/b/priority', { priority: 5 })
      expect(refused).toMatchObject({ status: 409, body: { error_type: 'ConflictError' } })
      expect(refused.body.detail).toBe(`Experiment "b" is ${state}: only a queued job has a place in the queue`)
    }
    expect((await service.call('POST', '/train/nobody/priority', { priority: 5 })).status).toBe(404)
  })

  test.each([1001, -1001, 1.5, '1', null])('priority %j: 422', async (priority) => {
    await start('a')
    expect((await start('b', { priority })).body.errors[0].field).toBe('priority')
    expect((await service.call('POST', '/train/a/priority', { priority })).status).toBe(422)
  })

  test('an estimated start waits for what runs and for what is ahead', async () => {
    await start('a')
    await becomes('a', 'running')
    await start('b')
    await start('c')
    const startOf = async (name: string) => (await service.call('GET', `/train/${name}/status`)).body.estimated_start
    expect(await startOf('a')).toBeNull()
    const job = await service.jobs.get('b')
    const seconds = job?.plan.estimatedSeconds ?? 0
    expect(seconds).toBeGreaterThan(0)
    const [b, c] = [Date.parse(await startOf('b')), Date.parse(await startOf('c'))]
    // Two questions, not at the same moment.
    expect(Math.abs(c - b - 1000 * seconds)).toBeLessThan(5000)
  })

  test('stopped while it waits: no process was there to end, and it can go on or be deleted', async () => {
    await start('a')
    const { body } = await service.call('POST', '/train/a/stop')
    expect(body).toEqual({
      experiment_name: 'a',
      status: 'stopped',
      message: 'Training job is stopped; it was not running. It can be resumed, or deleted',
    })
    expect(await queue()).toEqual([])
  })
})

import { existsSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JobState } from '@mlx-training/contract'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import { writeRun } from '../jobs/output-files.ts'
import { alpacaRows, contractErrors, createService, putModel, type Service } from './service.ts'

let service: Service
let name: string
let count = 0
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
})
afterAll(() => service.close())
beforeEach(async () => {
  name = `experiment-${++count}`
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(10 + count)))
})

const start = (change: object = {}) =>
  service.call('POST', '/train/start', {
    experiment_name: name,
    model_name: './tiny',
    lora: { use_lora: true },
    dataset: { dataset_path: 'data.json' },
    ...change,
  })
const remove = async () => {
  const answer = await service.call('DELETE', `/train/${name}`)
  if (answer.status === 200) expect(contractErrors('trainDelete', answer.body)).toEqual([])
  return answer
}
/** With the files that a run leaves. */
async function ended(state: JobState = 'completed', change: object = {}): Promise<Job> {
  expect((await start(change)).status).toBe(200)
  const job = (await service.jobs.get(name)) as Job
  await service.store.update(job.id, null, () => ({
    change: { state, completedAt: '2026-01-01T00:00:00Z' },
    events: [{ type: 'end', data: { state, reason: null } }],
  }))
  await mkdir(join(service.config.home, 'runs', job.id), { recursive: true })
  await writeFile(join(service.config.home, 'runs', job.id, 'engine.log'), 'x')
  await writeRun(job.plan.outputDir, job, [4])
  return job
}

describe('DELETE /train/{name}', () => {
  test.each(['completed', 'stopped', 'failed'] as const)(
    '%s: the row, its events, files, log and data',
    async (state) => {
      const job = await ended(state)
      const { status, body } = await remove()
      expect(status).toBe(200)
      expect(body).toEqual({ experiment_name: name, deleted: true, message: 'Deleted, with all of its files' })
      expect(await service.jobs.get(name)).toBeNull()
      expect(await service.store.eventsAfter(job.id, 0, 9)).toEqual([])
      for (const path of [job.plan.outputDir, job.plan.dataset.path, join(service.config.home, 'runs', job.id)])
        expect(existsSync(path), path).toBe(false)
      for (const after of [`/train/${name}/status`, `/train/${name}/events`])
        expect((await service.call('GET', after)).status).toBe(404)
      expect((await remove()).status).toBe(404)
      expect((await start()).status).toBe(200)
    },
  )

  test('foreign files stay, and are named', async () => {
    const { plan } = await ended()
    await writeFile(join(plan.outputDir, 'thesis.tex'), 'mine')
    const { body } = await remove()
    expect(body.kept_files).toEqual(['thesis.tex'])
    expect(body.message).toContain(plan.outputDir)
    expect(await readdir(plan.outputDir)).toEqual(['thesis.tex'])
  })

  test('a folder that does not carry the mark of the job is not touched', async () => {
    const { plan } = await ended()
    await writeFile(join(plan.outputDir, '.mlx-training.json'), JSON.stringify({ job_id: 'job_0' }))
    const { body } = await remove()
    expect(body).toMatchObject({ deleted: true, message: expect.stringContaining('mark') })
    expect(await readdir(plan.outputDir)).toContain('adapters.safetensors')
  })

  test.each([
    ['queued', 'stop it first'],
    ['preparing', 'stop it first'],
    ['running', 'stop it first'],
    ['paused', 'stop it first'],
    ['stopping', 'wait until it has stopped'],
  ] as const)('%s: 409 that says what to do', async (state, remedy) => {
    await start()
    const job = (await service.jobs.get(name)) as Job
    await service.store.update(job.id, null, () => ({ change: { state }, events: [] }))
    const { status, body } = await remove()
    expect(status).toBe(409)
    expect(body.detail).toBe(`Experiment "${name}" is ${state}: ${remedy}, then delete it`)
    expect(await service.jobs.get(name)).not.toBeNull()
  })

  test('data that another experiment uses stays', async () => {
    const { plan } = await ended()
    const first = name
    name = `${name}-b`
    await ended()
    await service.call('DELETE', `/train/${first}`)
    expect(existsSync(plan.dataset.path)).toBe(true)
    await remove()
    expect(existsSync(plan.dataset.path)).toBe(false)
  })

  test('the base model of another experiment stays while that is there', async () => {
    const { plan } = await ended('completed', { lora: {} })
    await putModel(plan.outputDir)
    const base = name
    name = `${name}-on-top`
    await ended('completed', { model_name: plan.outputDir })
    for (const refused of [
      await service.call('DELETE', `/train/${base}`),
      await start({ experiment_name: base, lora: {}, overwrite: true }),
    ]) {
      expect(refused.status).toBe(409)
      expect(refused.body.detail).toContain(`base model of "${name}"`)
    }
    expect(await service.jobs.get(base)).not.toBeNull()
    await remove()
    expect((await service.call('DELETE', `/train/${base}`)).status).toBe(200)
  })

  test('a reader of its events is let go', async () => {
    const job = await ended('failed')
    await service.store.update(job.id, null, () => ({ change: { state: 'queued', completedAt: null }, events: [] }))
    const reading = service.call('GET', `/train/${name}/events`)
    await service.call('POST', `/train/${name}/stop`)
    await remove()
    expect((await reading).status).toBe(200)
  })

  test('an experiment may be named as another route', async () => {
    name = 'start'
    await ended()
    expect((await remove()).body).toMatchObject({ experiment_name: 'start', deleted: true })
  })

  test('needs the scope train', async () => {
    await ended()
    const headers = { 'x-api-key': await service.key(['read', 'generate']) }
    expect((await service.call('DELETE', `/train/${name}`, undefined, headers)).status).toBe(403)
    expect(await service.jobs.get(name)).not.toBeNull()
  })
})

test('overwrite: the older files are noted to go, by the mark of their job', async () => {
  const old = await ended()
  expect((await start({ overwrite: true })).status).toBe(200)
  expect(await service.store.removals()).toEqual([{ jobId: old.id, name, outputDir: old.plan.outputDir }])
  await writeFile(join(old.plan.outputDir, 'notes.txt'), 'mine')
  // As a run does before its engine starts.
  const fresh = (await service.jobs.get(name)) as Job
  await service.sweeper.sweep()
  expect(await readdir(old.plan.outputDir)).toEqual(['notes.txt'])
  expect(fresh.id).not.toBe(old.id)
  expect(existsSync(fresh.plan.dataset.path)).toBe(true)
  expect(await service.store.removals()).toEqual([])
})

/** The whole way with the real engine: a tiny random model trains, is paused, killed, resumed and stopped, and generates. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { StartRequest } from '@mlx-training/contract'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tokenCache, trainCommand } from '../../src/jobs/command.ts'
import type { Job } from '../../src/jobs/port.ts'
import { type House, openHouse } from './house.ts'
import { newJob } from './jobs.ts'
import { engineSource, makeTinyModel, python, writeRows } from './real.ts'

let home: string
let house: House

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'real-engine-'))
  makeTinyModel(join(home, 'model'))
  house = await openHouse({
    folder: home,
    config: { python, engineSource, home },
    remove: () => rmSync(home, { recursive: true, force: true }),
  })
  await house.runner.start()
}, 60_000)
afterAll(async () => {
  await house.close()
  house.fake.remove()
})

/** 40 rows, two at a time: 20 steps an epoch. */
function submit(name: string, request: Partial<StartRequest>): Promise<Job> {
  const rows = Array.from({ length: 40 }, (_, row): [string, string] => [`Say ${row}`, `It is ${row}, as you said.`])
  const job = newJob(name, join(home, 'outputs', name))
  return house.jobs.submit({
    name,
    request: { ...job.request, learning_rate: 5e-3, ...request },
    plan: {
      ...job.plan,
      model: { kind: 'folder', name: 'tiny', path: join(home, 'model') },
      dataset: writeRows(join(home, 'rows.jsonl'), rows),
    },
  })
}

const stepsOf = async (job: Job) =>
  (await house.history(job)).flatMap(({ type, data }) =>
    type === 'step' ? [data as { step: number; loss: number }] : [],
  )

async function makes(job: Job, steps: number): Promise<void> {
  for await (const batch of house.events.follow(job.id, 0, new AbortController().signal))
    if (batch.some(({ type, data }) => type === 'step' && Number(data.step) >= steps)) return
  throw new Error(`${job.name} ended before step ${steps}: ${(await house.store.jobById(job.id))?.reason}`)
}

describe('the real engine', () => {
  it('is found', async () => {
    const health = await house.engine.ready()
    expect(health).toMatchObject({ state: 'ready', reason: null })
    expect(health.gflops).toBeGreaterThan(0)
  }, 60_000)

  it('is paused, killed and resumed, and ends where an uninterrupted run ends', async () => {
    const request = { epochs: 5, save_steps: 10 }
    const straight = await submit('straight', request)
    await house.reaches('straight', 'completed')
    const bumpy = await submit('bumpy', request)
    await makes(bumpy, 15)
    await house.jobs.pause('bumpy')
    const paused = await house.reaches('bumpy', 'paused')
    expect(paused.progress.checkpoints.at(-1)?.step).toBe(paused.progress.step?.step)
    await house.jobs.resume('bumpy')
    await makes(bumpy, 45)
    process.kill(house.pids.at(-1) ?? 0, 'SIGKILL')
    const job = await house.reaches('bumpy', 'completed')

    expect(job).toMatchObject({
      attempt: 3,
      reason: null,
      progress: { step: { step: 100, epoch: 5, processed_samples: 200 } },
    })
    expect(job.progress.prepared).toMatchObject({ total_steps: 100, samples: 40 })
    expect(job.progress.verified).toMatchObject({ ok: true, message: expect.stringContaining('as for generation') })
    expect(job.progress.prepared?.resumed_from_step).toBeGreaterThanOrEqual(40)
    const losses = new Map((await stepsOf(bumpy)).map(({ step, loss }) => [step, loss]))
    expect([...losses.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index + 1))
    expect(losses).toEqual(new Map((await stepsOf(straight)).map(({ step, loss }) => [step, loss])))
    expect(losses.get(100)).toBeLessThan((losses.get(1) ?? 0) * 0.8)
    const adapter = (name: string) => readFileSync(join(home, 'outputs', name, 'adapters.safetensors'))
    expect(adapter('bumpy').equals(adapter('straight'))).toBe(true)
    const here = readdirSync(join(home, 'outputs', 'bumpy', 'checkpoints')).map((name) => Number(name.slice(5)))
    expect(job.progress.checkpoints.map(({ step }) => step)).toEqual(here.sort((a, b) => a - b))
  }, 120_000)

  it('estimates what a job then tells, and leaves nothing behind', async () => {
    const job = (await house.jobs.get('straight')) as Job
    const outputDir = join(home, 'outputs', 'never')
    const command = trainCommand(
      { ...job, plan: { ...job.plan, outputDir }, progress: { prepared: null, memoryLevel: 0 } },
      join(home, 'model'),
      tokenCache(home),
    )
    const { estimated, ranOut } = await house.engine.estimate(command, {})
    const {
      resumed_from_step: _,
      validation_samples: __,
      packing: ___,
      lanes: ____,
      ranks: _____,
      ...counts
    } = job.progress.prepared as NonNullable<Job['progress']['prepared']>
    expect(estimated).toMatchObject({ ...counts, fits: true, measured_steps: 3 })
    expect(estimated.seconds).toBeGreaterThan(0)
    expect(ranOut).toBeNull()
    expect(existsSync(outputDir)).toBe(false)
  }, 60_000)

  it('stops with an adapter that changes what is generated', async () => {
    const job = await submit('stopped', { epochs: 1000 })
    await makes(job, 60)
    await house.jobs.stop('stopped')
    const { progress } = await house.reaches('stopped', 'stopped')
    expect(progress.checkpoints.at(-1)?.step).toBe(progress.step?.step)
    const say = (adapter_path: string | null) =>
      house.engine.generate(
        {
          model_path: join(home, 'model'),
          adapter_path,
          messages: [{ role: 'user', content: 'Say 7' }],
          prompt: null,
          max_tokens: 12,
          temperature: 0,
          top_p: 1,
          stop: [],
          seed: null,
        },
        {},
      )
    const before = await say(null)
    const after = await say(join(home, 'outputs', 'stopped'))
    expect(after.text).not.toBe(before.text)
    expect(after.completion_tokens).toBeGreaterThan(0)
    expect((await say(null)).text).toBe(before.text)
  }, 120_000)

  it('names what is wrong with a job', async () => {
    await submit('wrong', { lora: { ...newJob('x').request.lora, lora_target_modules: ['no_such_proj'] } })
    const job = await house.reaches('wrong', 'failed')
    expect(job).toMatchObject({ attempt: 1, reason: expect.stringContaining('no_such_proj') })
  }, 60_000)
})

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FrameOf } from '@mlx-training/contract'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { measurementOf, readMeasurements, remember, rememberedSeconds } from '../../src/jobs/measured.ts'
import type { Job } from '../../src/jobs/port.ts'
import { queuedJob } from './jobs.ts'

const PREPARED = { tokens: 1000, steps_per_epoch: 10, total_steps: 30 } as Job['progress']['prepared']

/** Three epochs of 1,000 tokens in 310 s, 10 of them for the start. */
function completed(change: Partial<Job> = {}): Job {
  const job = queuedJob()
  return {
    ...job,
    state: 'completed',
    attempt: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    completedAt: '2026-01-01T00:05:10.000Z',
    progress: { ...job.progress, prepared: PREPARED, step: { step: 30 } as Job['progress']['step'] },
    ...change,
  }
}

const work = {
  samples: 8,
  bytes: 800,
  maxSeqLength: 64,
  epochs: 2,
  batchSize: 2,
  gradientAccumulationSteps: 1,
  maxSteps: null,
}
const seconds = (measurements: (ReturnType<typeof measurementOf> | null)[], job: Job = queuedJob()) =>
  rememberedSeconds(
    job.request,
    job.plan,
    work,
    measurements.flatMap((one) => one ?? []),
  )

describe('an earlier job', () => {
  it('tells how long one of its kind takes: two epochs of the same data', () => {
    expect(seconds([measurementOf(completed())])).toBe(10 + 200)
  })

  it('that ended early tells it by what it did', () => {
    const job = completed()
    job.progress.step = { ...job.progress.step, step: 15 } as Job['progress']['step']
    expect(seconds([measurementOf(job)])).toBe(10 + 400)
  })

  it.each([
    ['was not completed', { state: 'stopped' }],
    ['was interrupted', { attempt: 2 }],
    [
      'downloaded its model',
      { plan: { ...queuedJob().plan, model: { kind: 'hub', name: 'a/b', repo: 'a/b', revision: 'c' } } },
    ],
    ['was over before it began', { completedAt: '2026-01-01T00:00:05.000Z' }],
  ] as [string, Partial<Job>][])('tells nothing when it %s', (_, change) => {
    expect(measurementOf(completed(change))).toBeNull()
  })

  it.each([
    ['method', { plan: { ...queuedJob().plan, method: 'qlora' } }],
    ['model', { plan: { ...queuedJob().plan, model: { kind: 'folder', name: 'tiny', path: '/models/other' } } }],
    ['rank', { request: { ...queuedJob().request, lora: { ...queuedJob().request.lora, lora_r: 5 } } }],
  ] as [string, Partial<Job>][])('tells nothing of another %s', (_, change) => {
    expect(seconds([measurementOf(completed())], { ...queuedJob(), ...change })).toBeNull()
  })

  it('tells of other data by their size', () => {
    const job = queuedJob()
    const other = { ...job, plan: { ...job.plan, dataset: { ...job.plan.dataset, sha256: 'cd' } } }
    expect(seconds([measurementOf(completed())], other)).toBe(10 + (2 * 200) / 10)
    const longer = completed({ completedAt: '2026-01-01T00:10:10.000Z', plan: other.plan })
    expect(seconds([measurementOf(completed()), measurementOf(longer)], other)).toBe(10 + 400)
  })
})

describe('what was estimated', () => {
  let home: string
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'measured-'))
  })
  afterEach(() => rmSync(home, { recursive: true }))
  const found = (seconds: number) =>
    ({ tokens: 1000, total_steps: 30, steps_per_epoch: 10, seconds }) as FrameOf<'estimated'>
  const keep = (seconds: number, sha256 = 'ab') => {
    const { request, plan } = queuedJob()
    return remember(home, request, { ...plan, dataset: { ...plan.dataset, sha256 } }, found(seconds))
  }

  it('is kept, the newest of each kind and data', async () => {
    expect(await readMeasurements(home)).toEqual([])
    await keep(310)
    await keep(610, 'cd')
    await keep(910)
    expect((await readMeasurements(home)).map(({ secondsPerToken }) => secondsPerToken)).toEqual([0.3, 0.2])
    expect(seconds(await readMeasurements(home))).toBe(10 + 600)
    for (let i = 0; i < 120; i++) await keep(310, `more-${i}`)
    expect(await readMeasurements(home)).toHaveLength(100)
  })

  it('counts as not there when its file is damaged', async () => {
    writeFileSync(join(home, 'measurements.json'), '[{')
    expect(await readMeasurements(home)).toEqual([])
    await keep(310)
    expect(await readMeasurements(home)).toHaveLength(1)
  })
})

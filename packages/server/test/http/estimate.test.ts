import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { countParameters, estimateSeconds, humanDuration } from '../../src/jobs/estimate.ts'
import { putModel } from './service.ts'

const folder = mkdtempSync(join(tmpdir(), 'mlx-training-estimate-'))
afterAll(() => rmSync(folder, { recursive: true }))

const WORK = {
  parameters: 135e6,
  samples: 1000,
  bytes: 1000 * 400,
  maxSeqLength: 512,
  epochs: 3,
  batchSize: 4,
  gradientAccumulationSteps: 1,
  maxSteps: null,
  full: false,
}
const CPU = { device: 'cpu', gflops: 177 }

describe('estimateSeconds', () => {
  const work = (change: Partial<typeof WORK> | { maxSteps: number } = {}, engine = CPU) =>
    (estimateSeconds({ ...WORK, ...change }, engine) ?? 0) - 10

  test('reproduces the measurement that its efficiency comes from: 77 tokens a second', () => {
    const tokens = (3 * WORK.bytes) / 4
    expect(tokens / work()).toBeGreaterThan(73)
    expect(tokens / work()).toBeLessThan(81)
  })

  test('grows with epochs, rows and parameters; full fine-tuning costs half as much again', () => {
    expect(work({ epochs: 6 }) / work()).toBeCloseTo(2, 2)
    expect(work({ parameters: 270e6 }) / work()).toBeCloseTo(2, 2)
    expect(work({ full: true }) / work()).toBeCloseTo(1.5, 2)
    expect(work({}, { device: 'metal: Apple M3 Max', gflops: 177 })).toBeLessThan(work())
  })

  test('ends with max_steps, and cuts rows at max_seq_length', () => {
    expect(work({ maxSteps: 75 }) / work()).toBeCloseTo(0.1, 2)
    expect(work({ maxSteps: 75_000 })).toBe(work())
    expect(work({ maxSeqLength: 50 }) / work()).toBeCloseTo(0.5, 2)
  })

  test('is unknown when nothing was measured', () => {
    expect(estimateSeconds(WORK, { device: 'cpu', gflops: null })).toBeNull()
  })
})

test.each([
  [3, 'about 5 seconds'],
  [42, 'about 40 seconds'],
  [58, 'about 1 minute'],
  [170, 'about 3 minutes'],
  [3500, 'about 1 hour'],
  [7000, 'about 2 hours'],
  [9000, 'about 2.5 hours'],
  [80_000, 'about 22 hours'],
  [200_000, 'about 2 days'],
])('%d s read "%s"', (seconds, text) => {
  expect(humanDuration(seconds)).toBe(text)
})

test('parameters: packed words count as the values in them, scales and biases do not count', async () => {
  await putModel(join(folder, 'plain'))
  await putModel(join(folder, 'packed'), { quantized: true })
  expect(await countParameters(join(folder, 'plain'))).toBe(64_000)
  expect(await countParameters(join(folder, 'packed'))).toBe(64_000)
})

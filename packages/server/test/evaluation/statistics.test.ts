import type { Estimate } from '@mlx-training/contract'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { differenceOf, type Rows } from '../../src/evaluation/results.ts'
import { chooseSamples } from '../../src/evaluation/samples.ts'
import { compared, mean, ratio, share, sum } from '../../src/evaluation/statistics.ts'

test('a mean has the standard error of the textbook', () => {
  expect(mean([2, 4, 4, 4, 5, 5, 7, 9])).toEqual({
    value: 5,
    standard_error: expect.closeTo(Math.sqrt(32 / 7 / 8), 12),
    interval: [
      expect.closeTo(5 - 1.959964 * Math.sqrt(4 / 7), 12),
      expect.closeTo(5 + 1.959964 * Math.sqrt(4 / 7), 12),
    ],
  })
  expect(mean([3])).toEqual({ value: 3, standard_error: null, interval: null })
  expect(mean([])).toBeNull()
  expect(ratio([0], [0])).toBeNull()
})

test('a ratio weighs rows by their tokens', () => {
  expect(ratio([10, 2], [5, 1])?.value).toBe(2)
  // Where amounts are proportional to weights there is nothing to be unsure of.
  expect(ratio([10, 2, 6], [5, 1, 3])?.standard_error).toBe(0)
})

const intervalOf = (estimate: Estimate | null) => (estimate as Estimate).interval as [number, number]

/** mulberry32 */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

test('95 of 100 intervals hold the truth, of losses of rows that differ in length', () => {
  const next = random(7)
  let held = 0
  for (let trial = 0; trial < 400; trial++) {
    const weights = Array.from({ length: 60 }, () => 1 + Math.floor(next() * 40))
    const losses = weights.map((weight) => weight * (1 + next() + next()))
    const [low, high] = intervalOf(ratio(losses, weights))
    if (low <= 2 && 2 <= high) held++
  }
  expect(held / 400).toBeGreaterThan(0.91)
  expect(held / 400).toBeLessThan(0.98)
})

test("Wilson's interval is wide where no row or every row matched", () => {
  const [low, high] = intervalOf(share(Array.from({ length: 20 }, () => 0)))
  expect(low).toBe(0)
  expect(high).toBeCloseTo(0.1611, 4)
  expect(share([1, 0, 1, 1])).toMatchObject({
    value: 0.75,
    interval: [expect.closeTo(0.3006, 4), expect.closeTo(0.9544, 4)],
  })
})

test('sums lose no digit, and comparisons no pair', () => {
  expect(sum(Array.from({ length: 1e6 }, () => 0.1))).toBeCloseTo(1e5, 9)
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer(), fc.integer())), (pairs) => {
      const { rows, better, worse, same } = compared(pairs)
      expect(better + worse + same).toBe(rows)
    }),
  )
})

const rows = (losses: Record<number, number | null>, trained = 2): Rows =>
  new Map(Object.entries(losses).map(([sample, loss]) => [Number(sample), { trained, correct: 1, loss }]))

test('models are compared on the rows of both, and only where their tokens are the same', () => {
  expect(differenceOf(rows({ 1: 4, 2: 2, 3: 9 }), rows({ 1: 2, 2: 2, 4: 1 }))).toMatchObject({
    loss: { value: -0.5 },
    token_accuracy: { value: 0 },
    rows: 2,
    better: 1,
    worse: 0,
    same: 1,
  })
  expect(differenceOf(rows({ 1: 4 }), rows({ 1: 4 }, 3))).toBeNull()
  expect(differenceOf(rows({ 1: 4 }), rows({ 1: null }))).toBeNull()
  expect(differenceOf(rows({ 1: 4 }), rows({ 2: 4 }))).toBeNull()
})

test('the rows to look at are the worst and those that changed most, each once', () => {
  const base = rows({ 0: 8, 1: 2, 2: 2, 3: 2, 4: 6, 5: 2, 6: 2 })
  const tuned = rows({ 0: 9, 1: 1, 2: 2, 3: 8, 4: 1, 5: null, 6: 2 })
  const chosen = chooseSamples([base, null, tuned], [null, null, null])
  expect(chosen.map(({ sample, why }) => `${sample} ${why}`)).toEqual([
    '5 worsened',
    '3 worsened',
    '0 worsened',
    '4 improved',
    '1 improved',
  ])
  expect(chooseSamples([base], []).map(({ why }) => why)).toEqual(['worst', 'worst', 'worst'])
  expect(chooseSamples([null], [])).toEqual([])
  const answered = new Map([[1, { text: '', scores: { exact_match: 0, rouge_1: 0, rouge_2: 0, rouge_l: 0, chrf: 0 } }]])
  expect(chooseSamples([base, tuned], [answered, answered]).filter(({ why }) => why !== 'worst')).toEqual([
    { sample: 1, why: 'improved' },
  ])
})

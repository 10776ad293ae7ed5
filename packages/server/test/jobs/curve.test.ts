import { expect, test } from 'vitest'
import { type LossCurve, NO_CURVE, upTo, withStep } from '../../src/jobs/curve.ts'

const through = (steps: number, curve: LossCurve = NO_CURVE, from = 1) => {
  for (let step = from; step <= steps; step++) curve = withStep(curve, step, 1 / step)
  return curve
}

test('a long run keeps 30 to 60 points at equal distances, the last of them near its end', () => {
  for (const steps of [60, 61, 1000, 12_345]) {
    const { every, points } = through(steps)
    expect(points.length).toBeGreaterThan(29)
    expect(points.length).toBeLessThanOrEqual(60)
    expect(points.map(([step]) => step)).toEqual(points.map((_, i) => (i + 1) * every))
    expect(steps - (points.at(-1)?.[0] ?? 0)).toBeLessThan(every)
  }
})

test('a step without a loss is left out; after a return the steps are told again, and the curve is as without it', () => {
  expect(withStep(NO_CURVE, 1, null)).toEqual(NO_CURVE)
  expect(through(50, upTo(through(50), 20), 21)).toEqual(through(50))
  expect(upTo(through(10), 0).points).toEqual([])
  // Without word of the return, too.
  expect(through(12, through(20), 5).points.map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
})

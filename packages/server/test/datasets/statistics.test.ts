import { expect, test } from 'vitest'
import { distributionOf, Histogram } from '../../src/datasets/statistics.ts'

function distribution(values: number[]) {
  const histogram = new Histogram()
  for (const value of values) histogram.add(value)
  const found = distributionOf(histogram)
  if (!found?.bars) throw new Error('no distribution')
  return { ...found, bars: found.bars }
}

test('few numbers have a bar each', () => {
  const { bars } = distribution([2, 2, 4, 2])
  expect(bars).toEqual([
    { from: 2, to: 2, rows: 3 },
    { from: 3, to: 3, rows: 0 },
    { from: 4, to: 4, rows: 1 },
  ])
})

test('many share 20 bars, which hold every row; the last goes on to the longest', () => {
  const { bars, min, max } = distribution([...Array.from({ length: 1000 }, (_, i) => 100 + i), 5_000_000])
  expect(bars).toHaveLength(20)
  expect(bars[0]?.from).toBe(min)
  expect(bars.at(-1)?.to).toBe(max)
  expect(bars.reduce((sum, { rows }) => sum + rows, 0)).toBe(1001)
  for (const [i, bar] of bars.entries()) if (i > 0) expect(bar.from).toBe((bars[i - 1]?.to ?? 0) + 1)
  // 50 numbers a bar; above 256 a number may be counted 1% lower.
  for (const { rows } of bars.slice(0, -1)) expect(Math.abs(rows - 50)).toBeLessThan(10)
})

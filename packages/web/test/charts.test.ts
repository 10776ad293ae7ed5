import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Column, lowerBound } from '../src/charts/columns.ts'
import { smooth } from '../src/charts/smooth.ts'
import { thin } from '../src/charts/thin.ts'

const curve = (length: number, y: (i: number) => number, x: (i: number) => number = (i) => i) => ({
  x: Float64Array.from({ length }, (_, i) => x(i)),
  y: Float64Array.from({ length }, (_, i) => y(i)),
})
const known = (column: (number | null | undefined)[] = []) => column.filter((value) => typeof value === 'number')

describe('thin', () => {
  test('few points are drawn as they are, on the union of their places', () => {
    const drawn = thin(
      [
        curve(3, (i) => i),
        curve(
          2,
          (i) => 10 * i,
          (i) => i + 0.5,
        ),
      ],
      0,
      2,
      500,
    )
    expect(drawn.x).toEqual([0, 0.5, 1, 1.5, 2])
    expect(drawn.y).toEqual([
      [0, undefined, 1, undefined, 2],
      [undefined, 0, undefined, 10, undefined],
    ])
  })

  test('NaN is a gap where points are drawn as they are', () => {
    expect(thin([curve(3, (i) => (i === 1 ? Number.NaN : i))], 0, 2, 500).y).toEqual([[0, null, 2]])
  })

  test('of 100,000 points a few per pixel are left, every extreme among them', () => {
    const spiky = curve(100_000, (i) => (i === 54_321 ? 99 : i === 7 ? -99 : Math.sin(i / 1000)))
    const drawn = thin([spiky], 0, 100_000, 800)
    expect(drawn.x.length).toBe(1600)
    expect(drawn.x).toEqual(drawn.x.toSorted((a, b) => a - b))
    expect(known(drawn.y[0])).toContain(99)
    expect(known(drawn.y[0])).toContain(-99)
    const at = drawn.x[drawn.y[0]?.indexOf(99) ?? -1] as number
    expect(Math.abs(at - 54_321)).toBeLessThan(100_000 / 800)
  })

  test('in any window, lowest and highest are those of the points in it (and of one more on each side)', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 3000 }),
        fc.nat(2999),
        fc.nat(2999),
        fc.integer({ min: 20, max: 300 }),
        (values, a, b, width) => {
          const [from, to] = [Math.min(a, b), Math.max(a, b) + 1]
          const drawn = known(thin([curve(values.length, (i) => values[i] as number)], from, to, width).y[0])
          const seen = values.slice(Math.max(0, Math.min(from, values.length) - 1), to + 2)
          if (seen.length === 0) return drawn.length === 0
          return Math.max(...drawn) === Math.max(...seen) && Math.min(...drawn) === Math.min(...seen)
        },
      ),
    )
  })
})

test('smoothing: none at 0; a constant stays; what is missing stays missing and counts for nothing', () => {
  const values = Float64Array.from([3, 1, Number.NaN, 1])
  expect(smooth(values, 0)).toBe(values)
  expect([...smooth(Float64Array.from([2, 2, 2]), 0.9)].map((value) => Number(value.toFixed(9)))).toEqual([2, 2, 2])
  const [first, second, third, fourth] = smooth(values, 0.5)
  expect(first).toBe(3)
  expect(second).toBeCloseTo(5 / 3)
  expect(third).toBeNaN()
  expect(fourth).toBeCloseTo(9 / 7)
})

test('columns grow, are cut, and are searched', () => {
  const column = new Column()
  for (let i = 0; i < 1000; i++) column.push(i === 999 ? null : 2 * i)
  expect(column.view()).toHaveLength(1000)
  expect(column.last()).toBeNaN()
  column.length = 10
  expect(column.last()).toBe(18)
  expect(lowerBound(column.view(), 7)).toBe(4)
  expect(lowerBound(column.view(), 100)).toBe(10)
})

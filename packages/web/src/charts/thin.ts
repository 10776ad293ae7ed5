/**
 * What of several long curves is to be drawn in a window: few points on one common x axis, which uPlot wants, with the
 * extremes of every curve kept. A curve of 100,000 points takes as long to draw as one of 2,000.
 */
import { lowerBound } from './columns.ts'

export interface Curve {
  /** Ascending. */
  x: ArrayLike<number>
  /** NaN: not there. */
  y: ArrayLike<number>
}

export interface Drawn {
  x: number[]
  /** One a curve; null is a gap, undefined: this curve has no point at this x and its line goes through. */
  y: (number | null | undefined)[][]
}

/** `from` to `to` in x, at most about two points for each of `width` pixels. */
export function thin(curves: readonly Curve[], from: number, to: number, width: number): Drawn {
  const ranges = curves.map(({ x }) => {
    // One more on each side, so that lines reach the edge.
    const first = Math.max(0, lowerBound(x, from) - 1)
    return [first, Math.min(x.length, lowerBound(x, to) + 2)] as const
  })
  const points = ranges.map(([first, end]) => end - first)
  const fits = Math.max(...points) <= 4 * width && points.reduce((sum, many) => sum + many, 0) <= ALL_AT_MOST
  return fits ? every(curves, ranges) : buckets(curves, ranges, from, to, width)
}

/** Points of all curves that are drawn as they are: with times as x no two curves share one, and gaps cost, too. */
const ALL_AT_MOST = 12_000

type Range = readonly [first: number, end: number]

function every(curves: readonly Curve[], ranges: readonly Range[]): Drawn {
  const xs = unionOf(curves, ranges)
  const y = curves.map((curve, i) => {
    const [first, end] = ranges[i] as Range
    const column = new Array<number | null | undefined>(xs.length).fill(undefined)
    let at = 0
    for (let j = first; j < end; j++) {
      while ((xs[at] as number) < (curve.x[j] as number)) at++
      column[at] = orNull(curve.y[j] as number)
    }
    return column
  })
  return { x: Array.from(xs), y }
}

/** Ascending, each once. Typed arrays sort ten times as fast as a set of numbers is filled. */
function unionOf(curves: readonly Curve[], ranges: readonly Range[]): Float64Array {
  const all = new Float64Array(ranges.reduce((sum, [first, end]) => sum + end - first, 0))
  let length = 0
  for (const [i, { x }] of curves.entries()) {
    const [first, end] = ranges[i] as Range
    for (let j = first; j < end; j++) all[length++] = x[j] as number
  }
  all.sort()
  let kept = 0
  for (let i = 0; i < all.length; i++) if (kept === 0 || all[i] !== all[kept - 1]) all[kept++] = all[i] as number
  return all.subarray(0, kept)
}

/** Lowest and highest of each bucket, in the order in which they come, at a quarter and three quarters of it. */
function buckets(curves: readonly Curve[], ranges: readonly Range[], from: number, to: number, width: number): Drawn {
  const size = (to - from) / width || 1
  const x = Array.from({ length: 2 * width }, (_, i) => from + (i / 2 + 0.25) * size)
  const y = curves.map((curve, i) => {
    const [first, end] = ranges[i] as Range
    const column = new Array<number | null | undefined>(2 * width).fill(undefined)
    const close = (bucket: number, low: number, high: number) => {
      if (bucket < 0 || low < 0) return
      const [one, other] = low <= high ? [low, high] : [high, low]
      column[2 * bucket] = curve.y[one] as number
      column[2 * bucket + 1] = curve.y[other] as number
    }
    let bucket = -1
    let low = -1
    let high = -1
    for (let j = first; j < end; j++) {
      const value = curve.y[j] as number
      if (Number.isNaN(value)) continue
      const its = Math.min(width - 1, Math.max(0, Math.floor(((curve.x[j] as number) - from) / size)))
      if (its !== bucket) {
        close(bucket, low, high)
        bucket = its
        low = j
        high = j
      } else {
        if (value < (curve.y[low] as number)) low = j
        if (value > (curve.y[high] as number)) high = j
      }
    }
    close(bucket, low, high)
    return column
  })
  return { x, y }
}

const orNull = (value: number) => (Number.isNaN(value) ? null : value)

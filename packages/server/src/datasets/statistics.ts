import type { DatasetStatistics, Distribution } from '@mlx-training/contract'
import type { Role } from './formats/format.ts'

/** Numbers below this have a bucket each; above it, each doubling has so many buckets: exact to 1 in 128. */
const EXACT = 256
const PER_DOUBLING = 128

/** How often each number came, in buckets: as much memory for a thousand numbers as for a thousand million. */
export class Histogram {
  buckets = new Float64Array(64)
  count = 0
  sum = 0
  min = Number.POSITIVE_INFINITY
  max = 0

  add(value: number): void {
    this.count++
    this.sum += value
    if (value < this.min) this.min = value
    if (value > this.max) this.max = value
    const at = bucketOf(value)
    if (at >= this.buckets.length) this.#grow(at)
    this.buckets[at] = (this.buckets[at] as number) + 1
  }

  append(other: Histogram): void {
    this.count += other.count
    this.sum += other.sum
    this.min = Math.min(this.min, other.min)
    this.max = Math.max(this.max, other.max)
    if (other.buckets.length > this.buckets.length) this.#grow(other.buckets.length - 1)
    for (const [i, count] of other.buckets.entries()) this.buckets[i] = (this.buckets[i] as number) + count
  }

  #grow(index: number): void {
    const grown = new Float64Array(2 ** Math.ceil(Math.log2(index + 1)))
    grown.set(this.buckets)
    this.buckets = grown
  }
}

function bucketOf(value: number): number {
  if (value < EXACT) return value
  const doubling = 31 - Math.clz32(value)
  return EXACT + (doubling - 8) * PER_DOUBLING + ((value >>> (doubling - 7)) & (PER_DOUBLING - 1))
}

/** The lowest number of a bucket. */
function lowestOf(bucket: number): number {
  if (bucket < EXACT) return bucket
  const doubling = 8 + Math.floor((bucket - EXACT) / PER_DOUBLING)
  return (PER_DOUBLING + ((bucket - EXACT) % PER_DOUBLING)) * 2 ** (doubling - 7)
}

/** Nearest-rank percentiles; null of nothing. */
export function distributionOf({ buckets, count, sum, min, max }: Histogram): Distribution | null {
  if (count === 0) return null
  const percentile = (share: number) => {
    let left = Math.max(1, Math.ceil(share * count))
    const bucket = buckets.findIndex((each) => {
      left -= each
      return left <= 0
    })
    return Math.min(max, Math.max(min, lowestOf(bucket)))
  }
  const p99 = percentile(0.99)
  return {
    total: sum,
    min,
    mean: Math.round((sum / count) * 10) / 10,
    p50: percentile(0.5),
    p90: percentile(0.9),
    p95: percentile(0.95),
    p99,
    max,
    bars: barsOf(buckets, min, p99, max),
  }
}

const BARS = 20

/** Equally wide from `min` to `p99`, so that one row of a million characters does not squeeze the rest into one bar. */
function barsOf(buckets: Float64Array, min: number, p99: number, max: number): NonNullable<Distribution['bars']> {
  const width = Math.ceil((p99 - min + 1) / BARS)
  const bars = Array.from({ length: Math.ceil((p99 - min + 1) / width) }, (_, i) => ({
    from: min + i * width,
    to: min + (i + 1) * width - 1,
    rows: 0,
  }))
  const last = bars[bars.length - 1] as (typeof bars)[number]
  last.to = max
  for (const [bucket, rows] of buckets.entries()) {
    if (rows === 0) continue
    // A bucket's lowest number may be less than the least that came.
    const at = Math.floor((Math.max(min, lowestOf(bucket)) - min) / width)
    ;(bars[at] ?? last).rows += rows
  }
  return bars
}

/** What the rows without errors are like. Plain data, for threads. */
export class Statistics {
  readonly characters = new Histogram()
  readonly words = new Histogram()
  readonly outputWords = new Histogram()
  readonly turns = new Histogram()
  readonly roles: Record<Role, number> = { system: 0, user: 0, assistant: 0, tool: 0 }
  readonly scripts = new Map<string, number>()
  withTools = 0
  shownOnly = 0

  append(other: Statistics): void {
    this.characters.append(other.characters)
    this.words.append(other.words)
    this.outputWords.append(other.outputWords)
    this.turns.append(other.turns)
    for (const role of Object.keys(this.roles) as Role[]) this.roles[role] += other.roles[role]
    for (const [script, rows] of other.scripts) this.addScript(script, rows)
    this.withTools += other.withTools
    this.shownOnly += other.shownOnly
  }

  addScript(script: string, rows = 1): void {
    this.scripts.set(script, (this.scripts.get(script) ?? 0) + rows)
  }

  report(): Omit<DatasetStatistics, 'duplicates'> {
    return {
      characters: distributionOf(this.characters),
      words: distributionOf(this.words),
      output_words: distributionOf(this.outputWords),
      turns: distributionOf(this.turns),
      roles: { ...this.roles },
      scripts: Object.fromEntries([...this.scripts].sort(([a, i], [b, j]) => j - i || (a < b ? -1 : 1))),
      rows_with_tools: this.withTools,
      turns_not_learned: this.shownOnly,
    }
  }
}

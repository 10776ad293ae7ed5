/** checkInRanges: JSON Lines, or an array, by several threads at once. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { DatasetFormat } from '@mlx-training/contract'
import type { Duplicates } from '../checks/duplicates.ts'
import type { Source } from '../containers/source.ts'
import { type Maps, readingOf } from '../formats/index.ts'
import type { Report } from '../report.ts'
import { FileFault } from '../split/fault.ts'
import { MAX_ROW_BYTES } from '../split/row.ts'
import type { Boundary } from './boundary.ts'
import { Chain } from './chain.ts'
import { Merge } from './merge.ts'
import type { Range, RangeTally, Shared } from './range.ts'

/** Small enough for little memory, large enough that handing over costs nothing to speak of. */
export const RANGE_BYTES = 16 * 1024 * 1024
/** Ranges that may be read before those in front of them are. */
const AHEAD = 2

export interface RangeTask extends Maps {
  fd: number
  size: number
  asked: DatasetFormat | undefined
  boundary: Boundary | null
}

export const sharedOf = ({ fd, size, asked, boundary, ...maps }: RangeTask): Shared => ({
  fd,
  size,
  reading: readingOf(maps, asked),
  maxRowBytes: MAX_ROW_BYTES,
  boundary,
})

/** The report, and what is needed to compare other rows with these. `boundary`: of an array. */
export async function checkInRanges(
  source: Source,
  { asked, columns, tags, trained }: Maps & { asked: DatasetFormat | undefined; trained?: Duplicates | undefined },
  threads: number,
  boundary: Boundary | null,
): Promise<{ report: Report; duplicates: Duplicates }> {
  const task: RangeTask = { fd: source.fd, size: source.size, asked, columns, tags, boundary }
  const shared = sharedOf(task)
  const ranges = rangesOf(source.size)
  const merge = new Merge(boundary ? 'array' : 'lines', source.size, trained)
  const chain = new Chain(shared, merge)
  const workers = Array.from(
    { length: Math.min(threads, ranges.length) },
    () => new Worker(new URL('./range-worker.js', import.meta.url), { workerData: task, resourceLimits: YOUNG }),
  )
  try {
    let next = 0
    const done = new Map<number, Promise<RangeTally>>()
    const free = [...workers]
    const begin = () => {
      while (next < ranges.length && done.size < workers.length + AHEAD && free.length > 0) {
        const worker = free.shift() as Worker
        const index = next++
        done.set(
          index,
          askFor(worker, ranges[index] as Range).then((tally) => {
            free.push(worker)
            begin()
            return tally
          }),
        )
        // Awaited in its turn; until then a failure must not count as unhandled.
        done.get(index)?.catch(() => {})
      }
    }
    for (let index = 0; index < ranges.length && !merge.fault; index++) {
      begin()
      chain.add(ranges[index] as Range, (await done.get(index)) as RangeTally)
      done.delete(index)
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
  const changed = await source.checkUnchanged().then(
    () => null,
    (error: unknown) => {
      if (error instanceof FileFault) return error
      throw error
    },
  )
  const report = merge.report(source.size, asked, shared.reading.expected, changed)
  return { report, duplicates: merge.duplicates }
}

/** Rows live for a moment only. More room for the young (64 MB) gained nothing, and took 18 MB more in all. */
export const YOUNG = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 512 }

export function rangesOf(size: number, bytes = RANGE_BYTES): Range[] {
  return Array.from({ length: Math.ceil(size / bytes) }, (_, i) => ({
    from: i * bytes,
    to: Math.min(size, (i + 1) * bytes),
  }))
}

async function askFor(worker: Worker, range: Range): Promise<RangeTally> {
  worker.postMessage(range)
  const ended = new AbortController()
  try {
    return await Promise.race([
      once(worker, 'message', ended).then(([tally]) => tally as RangeTally),
      once(worker, 'exit', ended).then(() => Promise.reject(new Error('A thread that checks rows ended too early'))),
    ])
  } finally {
    ended.abort()
  }
}

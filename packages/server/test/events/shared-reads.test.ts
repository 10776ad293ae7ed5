import type { JobEvent } from '@mlx-training/contract'
import { expect, it } from 'vitest'
import { BATCH, KEPT, SharedReads } from '../../src/events/shared-reads.ts'

function historyOf(length: number) {
  const store = {
    length,
    asked: 0,
    failing: false,
    async eventsAfter(_: string, after: number, limit: number): Promise<JobEvent[]> {
      store.asked++
      if (store.failing) throw new Error('disk')
      const count = Math.max(0, Math.min(limit, store.length - after))
      return Array.from({ length: count }, (_, i) => ({ id: after + 1 + i }) as JobEvent)
    },
  }
  return store
}

it('reads once for all who are at the same place, until the history grows', async () => {
  const store = historyOf(10)
  const reads = new SharedReads(store)
  const [one, two] = await Promise.all([reads.read('a', 4), reads.read('a', 4)])
  expect(one).toBe(two)
  expect(await reads.read('a', 4)).toBe(one)
  expect(store.asked).toBe(1)
  store.length = 12
  reads.grown('b')
  expect(await reads.read('a', 4)).toBe(one)
  reads.grown('a')
  expect(await reads.read('a', 4)).toHaveLength(8)
})

it('what is asked for while a read is under way that began before the history grew finds what is new', async () => {
  const store = historyOf(1)
  const reads = new SharedReads(store)
  const before = reads.read('a', 0)
  store.length = 2
  reads.grown('a')
  expect(await reads.read('a', 0)).toHaveLength(2)
  expect(await before).toHaveLength(1)
})

it('full batches stay, few are kept, and a failure is not', async () => {
  const store = historyOf(3 * BATCH)
  const reads = new SharedReads(store)
  const full = await reads.read('a', 0)
  reads.grown('a')
  expect(await reads.read('a', 0)).toBe(full)
  for (let i = 1; i <= KEPT; i++) await reads.read('a', i)
  expect(await reads.read('a', 0)).not.toBe(full)
  store.failing = true
  await expect(reads.read('a', 1400)).rejects.toThrow('disk')
  store.failing = false
  expect(await reads.read('a', 3 * BATCH - 100)).toHaveLength(100)
})

it('forgets a job that nobody follows any more', async () => {
  const store = historyOf(BATCH)
  const reads = new SharedReads(store)
  const [a, b] = [await reads.read('a', 0), await reads.read('b', 0)]
  reads.forget('a')
  expect(await reads.read('a', 0)).not.toBe(a)
  expect(await reads.read('b', 0)).toBe(b)
})

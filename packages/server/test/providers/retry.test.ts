import { expect, it } from 'vitest'
import { retryAfterMs } from '../../src/providers/failures.ts'
import { retried, waitBefore } from '../../src/providers/retry.ts'

it('waits up to twice as long each time, at most 8 s, or not at all, beside what the provider asks', () => {
  const waits = (random: number, asked = 0) => [0, 1, 2, 3, 4, 5].map((retry) => waitBefore(retry, asked, 500, random))
  expect(waits(1)).toEqual([500, 1000, 2000, 4000, 8000, 8000])
  expect(waits(0.5, 2000)).toEqual([2250, 2500, 3000, 4000, 6000, 6000])
  expect(waits(0)).toEqual([0, 0, 0, 0, 0, 0])
})

it.each([
  ['a few times', 3, 0, 60_000, 4],
  ['not when that is useless', 3, null, 60_000, 1],
  ['not when the provider asks for too much', 3, 5001, 60_000, 1],
  ['not when no time is left', 3, 2000, 1999, 1],
])('tries again %s', async (_, retries, pause, left, tries) => {
  let tried = 0
  // biome-ignore lint/correctness/useYield: it fails before
  async function* attempt(): AsyncGenerator<never, never> {
    tried++
    throw new Error('busy')
  }
  const run = retried(
    attempt,
    { retries, backoffMs: 0 },
    () => pause,
    () => left,
    new AbortController().signal,
  )
  await expect(run.next()).rejects.toThrow('busy')
  expect(tried).toBe(tries)
})

it.each<[Record<string, string>, unknown]>([
  [{ 'retry-after': '2' }, 2000],
  [{ 'retry-after': '0.5' }, 500],
  [{ 'retry-after-ms': '30', 'retry-after': '2' }, 30],
  [
    { 'retry-after': new Date(Date.now() + 29_000).toUTCString() },
    expect.toSatisfy((ms: number) => ms > 0 && ms <= 30_000),
  ],
  [{ 'retry-after': new Date(Date.now() - 30_000).toUTCString() }, undefined],
  [{ 'retry-after': '-1' }, undefined],
  [{ 'retry-after': 'soon' }, undefined],
  [{ 'retry-after': '99999999999' }, 86_400_000],
  [{}, undefined],
])('reads %j', (headers, expected) => expect(retryAfterMs(new Headers(headers))).toEqual(expected))

import type { JobState } from '@mlx-training/contract'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import { inOrder, placesOf } from '../../src/jobs/queue.ts'
import { queuedJob } from './jobs.ts'

const NOW = Date.parse('2026-01-01T12:00:00.000Z')
const at = (seconds: number) => new Date(NOW + 1000 * seconds).toISOString()

interface Sketch {
  state?: JobState
  priority?: number
  /** As estimated at its start. */
  seconds?: number | null
  /** As its last step told. */
  left?: number | null
  change?: Partial<Job>
}

/** Jobs as the store lists them: the newest, here the last, first. */
function jobs(sketches: Sketch[]): Job[] {
  return sketches
    .map(({ state = 'queued', priority = 0, seconds = 100, left, change }, index) => {
      const job = queuedJob(`j${index}`)
      const step = left === undefined ? null : ({ seconds_remaining: left } as NonNullable<Job['progress']['step']>)
      return {
        ...job,
        id: `j${index}`,
        state,
        priority,
        plan: { ...job.plan, estimatedSeconds: seconds },
        progress: { ...job.progress, step },
        ...change,
      }
    })
    .reverse()
}
const starts = (sketches: Sketch[], concurrent: number) =>
  Object.fromEntries([...placesOf(jobs(sketches), concurrent, NOW)].map(([id, { start }]) => [id, start]))

describe('the order', () => {
  it('is priority, then age; nothing but what waits is in it', () => {
    const listed = jobs([
      {},
      { priority: 5 },
      { state: 'running' },
      { priority: 5 },
      { priority: -1 },
      { state: 'paused' },
    ])
    expect(inOrder(listed).map(({ id }) => id)).toEqual(['j1', 'j3', 'j0', 'j4'])
    expect([...placesOf(listed, 1, NOW)].map(([id, { position }]) => [id, position])).toEqual([
      ['j1', 0],
      ['j3', 1],
      ['j0', 2],
      ['j4', 3],
    ])
  })
})

describe('the estimated start', () => {
  it('is now where a place is free, and then one after the other', () => {
    expect(starts([{ seconds: 60 }, { seconds: 30 }, {}], 1)).toEqual({ j0: at(0), j1: at(60), j2: at(90) })
    expect(starts([{ seconds: 60 }, { seconds: 30 }, {}], 2)).toEqual({ j0: at(0), j1: at(0), j2: at(30) })
  })

  it('waits for what is at work, by its last step or by its estimate', () => {
    expect(starts([{ state: 'running', left: 40 }, {}], 1)).toEqual({ j1: at(40) })
    const begun = { attempt: 1, startedAt: at(-70) }
    expect(starts([{ state: 'preparing', seconds: 100, change: begun }, {}], 1)).toEqual({ j1: at(30) })
    expect(starts([{ state: 'preparing', seconds: 50, change: begun }, {}], 1)).toEqual({ j1: at(0) })
    expect(starts([{ state: 'stopping', left: 4000 }, {}], 1)).toEqual({ j1: at(5) })
    expect(starts([{ state: 'running', left: 4000, change: { intent: 'pause' } }, {}], 1)).toEqual({ j1: at(5) })
  })

  it('counts of one that was interrupted what is left of it', () => {
    expect(starts([{ left: 20 }, {}], 1)).toEqual({ j0: at(0), j1: at(30) })
  })

  it('waits while one that has crashed is left alone', () => {
    const crashed = (fruitlessAttempts: number) => ({
      ...jobs([{}])[0],
      fruitlessAttempts,
      progress: { ...queuedJob('j').progress, interruption: { attempt: 1, at: at(-1), reason: 'boom' } },
    })
    expect(starts([{ change: crashed(4) }], 1)).toEqual({ j0: at(7) })
    expect(starts([{ change: crashed(0) }], 1)).toEqual({ j0: at(0) })
  })

  it('is not told behind one of which nothing is known, unless another place comes free', () => {
    expect(starts([{ seconds: null }, {}], 1)).toEqual({ j0: at(0), j1: null })
    expect(starts([{ seconds: null }, { seconds: 10 }, {}], 2)).toEqual({ j0: at(0), j1: at(0), j2: at(10) })
    expect(starts([{ state: 'running', left: null }, {}], 1)).toEqual({ j1: null })
  })

  it('of more at work than may be: the first to end leave no place', () => {
    const working = [10, 20, 30].map((left): Sketch => ({ state: 'running', left }))
    expect(starts([...working, {}], 1)).toEqual({ j3: at(30) })
    expect(starts([...working, {}], 2)).toEqual({ j3: at(20) })
  })

  it('is never earlier for whoever comes later', () => {
    const sketch = fc.record({
      state: fc.constantFrom<JobState>('queued', 'queued', 'running', 'paused', 'completed'),
      priority: fc.integer({ min: -2, max: 2 }),
      seconds: fc.option(fc.integer({ min: 0, max: 1000 })),
      left: fc.option(fc.integer({ min: 0, max: 1000 }), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.array(sketch, { maxLength: 12 }), fc.integer({ min: 1, max: 4 }), (sketches, concurrent) => {
        const listed = jobs(sketches)
        const places = [...placesOf(listed, concurrent, NOW).values()]
        expect(places.map(({ position }) => position)).toEqual(places.map((_, index) => index))
        const times = places.map(({ start }) => (start === null ? Number.POSITIVE_INFINITY : Date.parse(start)))
        for (const [index, time] of times.entries())
          if (index > 0) expect(time).toBeGreaterThanOrEqual(times[index - 1] ?? 0)
      }),
    )
  })
})

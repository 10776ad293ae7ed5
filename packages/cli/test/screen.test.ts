import { stripVTControlCharacters } from 'node:util'
import type { JobEvent, StatusResponse } from '@mlx-training/sdk'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bar, sparkline } from '../src/screen/chart.ts'
import { bytes, duration, loss } from '../src/screen/format.ts'
import { LiveView } from '../src/screen/live-view.ts'

describe('charts', () => {
  it('a bar is as wide as it is to be, whatever the share', () => {
    fc.assert(
      fc.property(fc.double({ min: -1, max: 2, noNaN: true }), fc.integer({ min: 0, max: 100 }), (share, width) => {
        expect([...bar(share, width)]).toHaveLength(width)
      }),
    )
    expect(bar(0.5, 4)).toBe('██░░')
    expect(bar(0.55, 4)).toBe('██▎░')
  })

  it('a sparkline is never wider than asked, and its ends are those of the values', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ noNaN: true }), { maxLength: 500 }),
        fc.integer({ min: 0, max: 80 }),
        (values, width) => {
          expect([...sparkline(values, width)].length).toBeLessThanOrEqual(width)
        },
      ),
    )
    expect(sparkline([1, 2, 3, 8], 10)).toBe('▁▂▃█')
    expect(sparkline([5, 5], 10)).toBe('▁▁')
    expect(sparkline([0, 0, 7, 7], 2)).toBe('▁█')
    expect(sparkline([Number.NaN], 2)).toBe('')
  })
})

it('numbers read as people write them', () => {
  expect([0, 59.6, 200, 3900, 100_000].map(duration)).toEqual([
    '0 s',
    '1 min 00 s',
    '3 min 20 s',
    '1 h 05 min',
    '1 d 3 h',
  ])
  expect(duration(null)).toBe('–')
  expect([0, 999, 1000, 123_456_789, 5e12].map(bytes)).toEqual(['0 B', '999 B', '1.0 kB', '123 MB', '5.0 TB'])
  expect([0.012344, 3.79123, 12345, null].map(loss)).toEqual(['0.01234', '3.791', '1.23e+4', '–'])
})

describe('the live view', () => {
  const status = {
    experiment_name: 'mine',
    model: 'a-model-with-a-rather-long-name/that-does-not-fit-on-a-narrow-terminal',
    status: 'queued',
    progress: { current_step: 0, total_steps: 0 },
    metrics: { smoothed_loss: null, tokens_per_second: 0, gpu_memory_used_mb: 0 },
    estimated_seconds_remaining: null,
  } as StatusResponse
  const event = (type: JobEvent['type'], data: Record<string, unknown>) => ({ type, data }) as JobEvent
  const step = (number: number, value: number) =>
    event('step', {
      step: number,
      loss: value,
      smoothed_loss: value,
      tokens_per_second: 120,
      memory_mb: 900,
      seconds_remaining: 61,
    })

  it('shows what the events have told, within the columns that there are', () => {
    const view = new LiveView(status)
    view.take(event('state', { state: 'running', reason: null }))
    view.take(event('prepared', { total_steps: 4, resumed_from_step: 0 }))
    view.take(step(1, 4))
    view.take(step(2, 2))
    view.take(event('eval', { step: 2, loss: 3 }))
    const lines = stripVTControlCharacters(view.draw(60)).split('\n')
    expect(lines.every((line) => line.length <= 60)).toBe(true)
    expect(lines[0]).toMatch(/^mine {2}running {2}a-model/)
    expect(lines[1]).toMatch(/^█+.*░+ 50% {2}step 2 of 4$/)
    expect(lines[2]).toBe('loss 2.000  ·  held out 3.000  ·  120 tokens/s  ·  900 MB  ·')
    expect(lines[3]).toBe('█▁')
  })

  it('forgets the steps that will come again', () => {
    const view = new LiveView(status)
    for (const number of [1, 2, 3]) view.take(step(number, number))
    view.take(event('prepared', { total_steps: 4, resumed_from_step: 1 }))
    view.take(step(2, 9))
    expect(stripVTControlCharacters(view.draw(80)).split('\n')[3]).toBe('▁█')
  })
})

import { stripVTControlCharacters } from 'node:util'
import type { JobEvent, ModelEvaluation, StatusResponse } from '@mlx-training/sdk'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bar, sparkline } from '../src/screen/chart.ts'
import { describeEvaluation } from '../src/screen/evaluation.ts'
import { bytes, duration, loss } from '../src/screen/format.ts'
import { LiveView } from '../src/screen/live-view.ts'
import { harmless, marked, table } from '../src/screen/print.ts'

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

describe('tables', () => {
  const lines = (text: string) => stripVTControlCharacters(text).split('\n')

  it('keep to the width of the line, and lose nothing', () => {
    const words = fc.array(fc.stringMatching(/^[a-z夜間]{1,40}$/), { minLength: 1, maxLength: 6 })
    const cell = words.map((all) => all.join(' '))
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell, cell), { minLength: 1, maxLength: 4 }), (rows) => {
        const drawn = lines(table(['name', 'b', 'c'], rows, [2], 80))
        for (const line of drawn) expect(stringWidth(line)).toBeLessThanOrEqual(80)
        const letters = (text: string) => [...text.replaceAll(/\s/g, '')].sort().join('')
        expect(letters(drawn.slice(1).join(''))).toBe(letters(rows.flat().join('')))
      }),
    )
  })

  it('are whole lines in a pipe', () => {
    const row = ['x'.repeat(100), 'y '.repeat(100).trim()]
    expect(lines(table(['a', 'b'], [row])).at(-1)).toBe(row.join('  '))
  })

  it('break coloured cells where the words are, not inside of a colour', () => {
    const rows = [['x'.repeat(60), '\x1b[32mcompleted\x1b[39m', 'some words that have no room in what is left of it']]
    expect(lines(table(['name', 'state', 'what'], rows, [], 80)).some((line) => /\bcompleted\b/.test(line))).toBe(true)
  })
})

/** Places on a terminal, by the library that the wrapping is done with. */
const stringWidth = (text: string) => [...text].reduce((sum, one) => sum + (/[夜間]/.test(one) ? 2 : 1), 0)

it('a text with a mark is wrapped under its first word on a terminal alone', () => {
  const terminal = { isTTY: true, columns: 20 } as NodeJS.WriteStream
  expect(marked('•', 'some words that are wrapped', terminal)).toBe('• some words that\n  are wrapped')
  expect(marked('•', 'some words that are wrapped', { isTTY: false } as NodeJS.WriteStream)).toBe(
    '• some words that are wrapped',
  )
})

it('what a model wrote can not steer the terminal', () => {
  const terminal = { isTTY: true } as NodeJS.WriteStream
  expect(harmless('a\tb\n\x1b]0;title\x07\x9b2Jc', terminal)).toBe('a\tb\n\ufffd]0;title\ufffd\ufffd2Jc')
  expect(harmless('\x1b', { isTTY: false } as NodeJS.WriteStream)).toBe('\x1b')
})

describe('evaluations', () => {
  const estimate = (value: number, half: number) => ({
    value,
    standard_error: half / 2,
    interval: [value - half, value + half],
  })
  const result = (model: string, loss: number, change: Partial<ModelEvaluation> = {}): ModelEvaluation => ({
    model,
    state: 'completed',
    error: null,
    rows: 53,
    rows_dropped: 0,
    rows_truncated: 0,
    trained_tokens: 900,
    loss: estimate(loss, 0.1),
    perplexity: Math.exp(loss),
    token_accuracy: estimate(0.5, 0.02),
    difference: null,
    generated: null,
    warnings: ['1 row cut'],
    seconds: 3,
    ...change,
  })
  const better = {
    loss: estimate(-1.5, 0.2),
    token_accuracy: estimate(0.25, 0.1),
    rows: 53,
    better: 50,
    worse: 2,
    same: 1,
  }
  const told = (results: ModelEvaluation[]) =>
    describeEvaluation({
      id: 'ev_x',
      state: 'completed',
      reason: null,
      queue_position: null,
      created_at: '',
      started_at: null,
      completed_at: null,
      models: results.map(({ model }) => model),
      dataset_path: '/data/held.json',
      progress: null,
      request: {},
      dataset_rows: 53,
      warnings: [],
      results,
      samples: [],
    })

  it('tell losses with their intervals, and the difference to the first, row by row', () => {
    const text = told([result('base', 3.2), result('tuned', 1.7, { difference: better })])
    expect(text).toMatch(/^base +3\.200 ± 0\.10 +24\.53 +50\.0% ± 2\.0% +53$/m)
    expect(text).toMatch(/^against base /m)
    expect(text).toMatch(/^tuned +−1\.500 \(−1\.7 to −1\.3\) +\+25\.0% +50 +2 +1$/m)
    expect(text.match(/1 row cut/g)).toHaveLength(1)
  })

  it('tell what failed, beside the others', () => {
    const failed = { state: 'failed', error: 'There is no such folder', loss: null } as const
    const text = told([result('base', 3.2), result('gone', 0, failed)])
    expect(text).toMatch(/^base /m)
    expect(text).toContain('✗ gone: There is no such folder')
    expect(told([result('gone', 0, { ...failed, warnings: [] })])).not.toContain('perplexity')
  })
})

it('a name that has no room is shortened on its line, and whole where there is room', () => {
  const rows = [['n'.repeat(60), 'completed', 'a-model/of-some-length', '2026-01-01 10:00']]
  const made = (room: number) => table(['experiment', 'state', 'model', 'since'], rows, [], room, [0]).split('\n')
  expect(made(80)[1]).toMatch(/^n{20,}… /)
  expect(made(80).join('').match(/n{5,}/g)).toHaveLength(1)
  expect(made(200)[1]).toContain('n'.repeat(60))
})

import type { HistoryResponse, JobEvent } from '@mlx-training/contract'
import { expect, test } from 'vitest'
import { RunData } from '../src/live/run-data.ts'

let id = 0
const event = (type: JobEvent['type'], data: Record<string, unknown>): JobEvent => ({
  id: ++id,
  job_id: 'job_1',
  type,
  at: new Date(1_700_000_000_000 + 1000 * id).toISOString(),
  data,
})
const step = (number: number) => event('step', { step: number, loss: 1 / number, memory_mb: 10 })
const evaluation = (number: number) => event('eval', { step: number, loss: 2, perplexity: 7, token_accuracy: 0.5 })

function fresh(): RunData {
  id = 0
  return new RunData()
}
const add = (data: RunData, ...events: JobEvent[]) => {
  for (const one of events) data.addEvent(one)
}
const steps = (data: RunData) => [...data.step.view()]

test('an event that comes again changes nothing', () => {
  const data = fresh()
  const events = [step(1), step(2), evaluation(2), event('warning', { message: 'w' })]
  add(data, ...events, ...events)
  expect(steps(data)).toEqual([1, 2])
  expect(data.evaluations).toHaveLength(1)
  expect(data.events).toHaveLength(2)
})

test('after a crash the run goes on from its checkpoint: what is told again takes the place of the first telling', () => {
  const data = fresh()
  add(data, step(1), step(2), step(3), evaluation(3), event('prepared', { resumed_from_step: 2 }))
  expect(steps(data)).toEqual([1, 2])
  expect(data.evaluations).toEqual([])
  add(data, step(3), evaluation(3), step(4))
  expect(steps(data)).toEqual([1, 2, 3, 4])
  expect(data.evaluations.map(({ step }) => step)).toEqual([3])
  expect(data.metrics.loss.view()).toHaveLength(4)
})

test('a rollback takes back what came after; a step that is told twice without a word is there once', () => {
  const data = fresh()
  add(data, step(1), step(2), step(3), event('rollback', { step: 1 }))
  expect(steps(data)).toEqual([1])
  add(data, step(2), step(3), step(2), step(3))
  expect(steps(data)).toEqual([1, 2, 3])
})

test('the same from a history in columns as from events, whatever the pages', () => {
  const events = () => {
    id = 0
    return [step(1), step(2), step(3), event('rollback', { step: 1 }), step(2), evaluation(2), step(3), step(4)]
  }
  const whole = fresh()
  add(whole, ...events())
  for (let cut = 0; cut <= 8; cut++) {
    const data = fresh()
    data.addHistory(asHistory(events().slice(0, cut)))
    data.addHistory(asHistory(events().slice(cut), 8))
    expect(steps(data)).toEqual(steps(whole))
    expect([...data.metrics.loss.view()]).toEqual([...whole.metrics.loss.view()])
    expect(data.evaluations).toEqual(whole.evaluations)
    expect(data.last).toBe(8)
  }
})

function asHistory(events: JobEvent[], last = events.at(-1)?.id ?? 0): HistoryResponse {
  const told = events.filter(({ type }) => type === 'step')
  const column = (name: string) => told.map(({ data }) => (data[name] as number | undefined) ?? null)
  return {
    experiment_name: 'mine',
    job_id: 'job_1',
    status: 'running',
    last_event: last,
    more: false,
    steps: {
      id: told.map((one) => one.id),
      step: column('step') as number[],
      epoch: told.map(() => 1),
      at: told.map(({ at }) => Date.parse(at)),
      loss: column('loss'),
      smoothed_loss: column('smoothed_loss'),
      learning_rate: column('learning_rate'),
      grad_norm: column('grad_norm'),
      tokens_per_second: column('tokens_per_second'),
      memory_mb: column('memory_mb'),
    },
    events: events.filter(({ type }) => type !== 'step'),
  }
}

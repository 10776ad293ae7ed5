import { readFileSync } from 'node:fs'
import { FRAMES, type Frame, JOB_STATES, type JobState } from '@mlx-training/contract'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  AT_WORK,
  ENDED,
  type Input,
  MAX_FRUITLESS,
  MAX_FRUITLESS_OUT_OF_MEMORY,
  transition,
} from '../../src/jobs/machine.ts'
import type { Intent, Job } from '../../src/jobs/port.ts'
import { project } from '../../src/jobs/project.ts'
import type { JobUpdate } from '../../src/store/port.ts'
import { NO_PROGRESS } from '../../src/store/schema.ts'
import { queuedJob } from './jobs.ts'

const AT = '2026-02-03T04:05:06.000Z'
const INPUTS: Input[] = [
  { type: 'stop' },
  { type: 'pause' },
  { type: 'resume' },
  { type: 'claim' },
  { type: 'prepared' },
  { type: 'completed' },
  { type: 'yielded', reason: 'The server was shut down' },
  { type: 'crashed', reason: 'boom', log: ['Traceback', 'boom'] },
  { type: 'crashed', reason: 'no memory', outOfMemory: true },
  { type: 'refused', reason: 'bad model', log: ['bad'] },
  { type: 'blocked', reason: 'disk full' },
  { type: 'unblocked' },
]
const INTENTS: Record<JobState, Intent[]> = {
  queued: ['run'],
  preparing: ['run', 'pause'],
  running: ['run', 'pause'],
  paused: ['run'],
  stopping: ['stop'],
  stopped: ['run'],
  completed: ['run'],
  failed: ['run'],
}

const apply = (job: Job, { change, events }: JobUpdate): Job => ({
  ...job,
  ...change,
  lastEventId: job.lastEventId + events.length,
})
const jobIn = (state: JobState, change: Partial<Job> = {}): Job => ({
  ...queuedJob(),
  state,
  intent: INTENTS[state][0] ?? 'run',
  completedAt: ENDED.includes(state) ? AT : null,
  ...change,
})
const move = (job: Job, input: Input): Job => {
  const result = transition(job, input, AT)
  if ('conflict' in result) throw new Error(result.conflict)
  return apply(job, result)
}

describe('the job machine', () => {
  it('makes the moves that docs/states.md lists, and no other', () => {
    const made = new Set<string>()
    for (const state of JOB_STATES)
      for (const intent of INTENTS[state])
        for (const fruitlessAttempts of [1, MAX_FRUITLESS, MAX_FRUITLESS_OUT_OF_MEMORY])
          for (const input of INPUTS)
            for (const waitsFor of state === 'paused' ? ([null, 'room'] as const) : [null]) {
              const job = jobIn(state, { intent, fruitlessAttempts, progress: { ...NO_PROGRESS, waitsFor } })
              const result = transition(job, input, AT)
              if (!('conflict' in result) && Object.keys(result.change).length > 0)
                made.add(`${state} | ${input.type} | ${result.change.state}`)
            }
    const documented = readFileSync(new URL('../../../../docs/states.md', import.meta.url), 'utf8')
      .split('## Moves')[1]
      ?.split('\n')
      .filter((line) => line.startsWith('| ') && !line.startsWith('| from'))
      .map((line) => line.slice(2).split(' | ').slice(0, 3).join(' | '))
    expect([...made].sort()).toEqual(documented?.sort())
  })

  it('draws the same moves in the diagram', () => {
    const text = readFileSync(new URL('../../../../docs/states.md', import.meta.url), 'utf8')
    const drawn = [...text.matchAll(/^ {2}(\w+) --> (\w+):/gm)].map(([, from, to]) => `${from} ${to}`)
    const listed = new Set(
      [...(text.split('## Moves')[1]?.matchAll(/^\| (\w+) \| \w+ \| (\w+) \|/gm) ?? [])].map(([, a, b]) => `${a} ${b}`),
    )
    expect(drawn.length).toBeGreaterThan(15)
    for (const pair of drawn) expect(listed).toContain(pair)
  })

  it('says of a refused command in which state the job is and what is possible', () => {
    expect(transition(jobIn('completed'), { type: 'stop' }, AT)).toEqual({
      conflict: 'Experiment "a" is completed: start another experiment to train further',
    })
    expect(transition(jobIn('running'), { type: 'resume' }, AT)).toEqual({
      conflict: 'Experiment "a" is running: it can be paused or stopped',
    })
    expect(transition(jobIn('stopping'), { type: 'pause' }, AT)).toEqual({
      conflict: 'Experiment "a" is stopping: wait until it has stopped',
    })
  })

  it('does nothing for a command that is under way', () => {
    for (const [job, type] of [
      [jobIn('stopping'), 'stop'],
      [jobIn('paused'), 'pause'],
      [jobIn('running', { intent: 'pause' }), 'pause'],
    ] as const)
      expect(transition(job, { type }, AT)).toEqual({ change: {}, events: [] })
  })

  it('gives up after five fruitless attempts, and never while checkpoints come', () => {
    const crash = (job: Job) => move(move(job, { type: 'claim' }), { type: 'crashed', reason: 'boom' })
    let job = queuedJob()
    for (let attempt = 1; attempt < MAX_FRUITLESS; attempt++) {
      job = crash(job)
      expect(job).toMatchObject({ state: 'queued', attempt, reason: 'boom', completedAt: null })
    }
    const { interruption } = move(job, { type: 'claim' }).progress
    expect(interruption, 'still told while the next one is at work').toEqual({ attempt: 4, at: AT, reason: 'boom' })
    job = crash(job)
    expect(job).toMatchObject({ state: 'failed', attempt: 5, completedAt: AT })
    expect(job.reason).toBe('Given up after 5 attempts without a new checkpoint. The last one: boom')
    expect(crash(move(job, { type: 'resume' })).state).toBe('queued')

    let lively = queuedJob()
    for (let attempt = 0; attempt < 20; attempt++) {
      lively = move(lively, { type: 'claim' })
      const checkpoint = {
        type: 'checkpoint',
        step: attempt + 1,
        path: `/c/${attempt}`,
        loss: 1,
        validation_loss: null,
        best: false,
      } as const
      lively = apply(lively, project(lively, checkpoint, AT, () => true) as JobUpdate)
      lively = move(lively, { type: 'crashed', reason: 'boom' })
    }
    expect(lively).toMatchObject({ state: 'queued', attempt: 20, fruitlessAttempts: 0 })
  })

  it('gives up though a checkpoint is told again, with no new step in it', () => {
    const checkpoint = { type: 'checkpoint', step: 7, path: '/c', loss: 1, validation_loss: null, best: false } as const
    let job = queuedJob()
    for (let attempt = 0; attempt <= MAX_FRUITLESS; attempt++) {
      expect(job.state).toBe('queued')
      job = move(job, { type: 'claim' })
      // With the validation loss of a further evaluation at the same step, say.
      job = apply(job, project(job, { ...checkpoint, validation_loss: attempt }, AT, () => true) as JobUpdate)
      job = move(job, { type: 'crashed', reason: 'boom' })
    }
    expect(job).toMatchObject({ state: 'failed', attempt: MAX_FRUITLESS + 1 })
  })

  it('computes less at a time with every attempt that runs out of memory, until nothing is left to try', () => {
    let job = queuedJob()
    for (let attempt = 1; attempt <= MAX_FRUITLESS_OUT_OF_MEMORY; attempt++) {
      expect(job).toMatchObject({ state: 'queued', progress: { memoryLevel: attempt - 1 } })
      job = move(move(job, { type: 'claim' }), { type: 'crashed', reason: 'The engine was killed', outOfMemory: true })
    }
    expect(job.state).toBe('failed')
    expect(job.reason).toBe(
      `Given up after ${MAX_FRUITLESS_OUT_OF_MEMORY} attempts without a new checkpoint. The last one: The engine was ` +
        'killed. A smaller batch_size or max_seq_length, or QLoRA, takes less',
    )
    // Nothing of that is forgotten when the user resumes it, nor when it was on its way to a pause or a stop.
    expect(move(job, { type: 'resume' }).progress.memoryLevel).toBe(MAX_FRUITLESS_OUT_OF_MEMORY)
    for (const [state, intent] of [
      ['running', 'pause'],
      ['stopping', 'stop'],
    ] as const) {
      const ended = move(jobIn(state, { intent }), { type: 'crashed', reason: 'boom', outOfMemory: true })
      expect(ended.progress.memoryLevel).toBe(1)
    }
  })

  it('keeps in the warnings why each attempt ended, and from where the next one goes on', () => {
    const crash = (job: Job, outOfMemory: boolean) =>
      move(move(job, { type: 'claim' }), { type: 'crashed', reason: 'The engine was killed', outOfMemory })
    let job = crash(queuedJob(), false)
    job = move(move(job, { type: 'claim' }), { type: 'prepared' })
    const checkpoint = {
      type: 'checkpoint',
      step: 120,
      path: '/c',
      loss: 1,
      validation_loss: null,
      best: false,
    } as const
    job = apply(job, project(job, checkpoint, AT, () => true) as JobUpdate)
    job = crash({ ...job, state: 'queued' }, true)
    expect(job.reason).toBe('The engine was killed. Going on with less in memory at a time (level 1)')
    expect(job.progress.warnings).toEqual([
      'Attempt 1 ended: The engine was killed; from the start',
      'Attempt 3 ended: The engine was killed. Going on with less in memory at a time (level 1); from step 120',
    ])
    expect(move(job, { type: 'claim' }).reason).toBeNull()
  })

  it('takes in what is told again after a restart, and nothing twice', () => {
    const evaluated: Frame = {
      type: 'eval',
      step: 2,
      loss: 1,
      trained_tokens: 9,
      perplexity: 2.7,
      token_accuracy: 0.5,
      best: true,
    }
    const saved: Frame = { type: 'checkpoint', step: 2, path: '/c/2', loss: 1, validation_loss: 1, best: true }
    let job = jobIn('running')
    for (const frame of [evaluated, saved]) {
      const update = project(job, frame, AT, () => true)
      expect(update?.events).toHaveLength(1)
      job = apply(job, update as JobUpdate)
      expect(project(job, frame, '2026-03-01T00:00:00.000Z', () => true)).toBeNull()
      expect(project(job, { ...frame, loss: 0.5 }, AT, () => true)?.events).toHaveLength(1)
    }
  })

  it('takes back what came after the step that the engine goes on from', () => {
    let job = jobIn('running', { attempt: 1 })
    const see = (frame: Frame) => {
      job = apply(job, project(job, frame, AT, () => true) as JobUpdate)
    }
    for (const [step, loss, best] of [
      [10, 2, true],
      [20, 3, false],
      [30, 1, true],
    ] as const) {
      see({ type: 'eval', step, loss, trained_tokens: 4, perplexity: 2, token_accuracy: 0.5, best })
      see({ type: 'checkpoint', step, path: `/c/${step}`, loss: 1, validation_loss: loss, best })
    }
    expect(job.progress.best).toEqual({ step: 30, loss: 1 })
    see({ type: 'rollback', step: 20, learning_rate_scale: 0.5, message: 'back to 20' })
    expect(job.progress.best).toEqual({ step: 10, loss: 2 })
    expect(job.progress.checkpoints.map(({ step, best }) => [step, best])).toEqual([
      [10, true],
      [20, false],
    ])
    expect(job.progress.warnings).toEqual(['back to 20'])
    expect(job.progress.rollbacks).toBe(1)
  })

  it('tells a failure with its log before the state, and the end last', () => {
    const result = transition(jobIn('running', { attempt: 1 }), { type: 'refused', reason: 'bad', log: ['x'] }, AT)
    expect('events' in result && result.events).toEqual([
      { type: 'log', data: { lines: ['x'] } },
      { type: 'state', data: { state: 'failed', reason: 'bad', attempt: 1 } },
      { type: 'end', data: { state: 'failed', reason: 'bad' } },
    ])
  })
})

describe('any sequence of commands, frames, crashes and restarts', () => {
  const number = fc.integer({ min: 0, max: 50 })
  const frame = fc.oneof(
    fc.record({
      type: fc.constant('stage' as const),
      stage: fc.constant('loading_model'),
      done: number,
      total: number,
    }),
    number.map(
      (resumed_from_step): Frame => ({
        type: 'prepared',
        total_steps: 50,
        steps_per_epoch: 50,
        resumed_from_step,
        samples: 8,
        samples_dropped: 0,
        samples_truncated: 0,
        tokens: 100,
        trained_tokens: 50,
        trainable_params: 10,
        total_params: 100,
        target_modules: ['q_proj'],
        validation_samples: 0,
        packing: false,
        lanes: 1,
        ranks: 1,
      }),
    ),
    fc.tuple(number, fc.option(fc.double({ noNaN: true }))).map(
      ([step, loss]): Frame => ({
        type: 'step',
        step,
        epoch: 1,
        loss,
        smoothed_loss: loss,
        padding_share: 0,
        learning_rate: 1e-4,
        grad_norm: 1,
        tokens: 9,
        trained_tokens: 4,
        tokens_per_second: 5,
        trained_tokens_per_second: 2,
        processed_samples: step,
        memory_mb: 10,
        seconds_remaining: null,
      }),
    ),
    fc.tuple(number, fc.boolean()).map(
      ([step, best]): Frame => ({
        type: 'eval',
        step,
        loss: 1,
        trained_tokens: 4,
        perplexity: Math.E,
        token_accuracy: 0.5,
        best,
      }),
    ),
    fc
      .tuple(number, fc.boolean())
      .map(
        ([step, best]): Frame => ({ type: 'checkpoint', step, path: `/c/${step}`, loss: 1, validation_loss: 1, best }),
      ),
    number.map((step): Frame => ({ type: 'rollback', step, learning_rate_scale: 0.5, message: 'back' })),
    number.map((level): Frame => ({ type: 'memory', level, message: 'less at a time' })),
    number.map((step): Frame => ({ type: 'sample', step, prompt: 'a', base: 'b', tuned: 'c' })),
    number.map((code): Frame => ({ type: 'warning', code: `w${code}`, message: `warning ${code}` })),
    fc.constant<Frame>({ type: 'alive', memory_mb: 1 }),
    fc.constant<Frame>({ type: 'finished', outcome: 'completed', step: 1, loss: 1, best_step: null, reason: null }),
  )
  const step = fc.oneof(
    fc.constantFrom(...INPUTS).map((input) => ({ input })),
    frame.map((received) => ({ received })),
  )

  it('knows every frame of training', () => {
    const kinds = new Set(fc.sample(frame, 500).map(({ type }) => type))
    for (const type of ['stage', 'prepared', 'step', 'eval', 'checkpoint', 'warning', 'finished'] as const)
      expect(kinds.has(type) && type in FRAMES).toBe(true)
  })

  it('keeps a job whole and leaves a way to its end', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let job = queuedJob()
        let lastEvent = 'state'
        for (const { input, received } of steps as { input?: Input; received?: Frame }[]) {
          const before = structuredClone(job)
          const result = input ? transition(job, input, AT) : project(job, received as Frame, AT, () => true)
          expect(job).toEqual(before)
          if (!result) continue
          if ('conflict' in result) {
            expect(result.conflict).toMatch(new RegExp(`is ${job.state}: `))
            continue
          }
          job = apply(job, result)
          lastEvent = result.events.at(-1)?.type ?? lastEvent
          check(before, job, lastEvent)
        }
        expect(ENDED).toContain(finish(job).state)
      }),
      { numRuns: 500 },
    )
  })

  function check(before: Job, job: Job, lastEvent: string): void {
    expect(JOB_STATES).toContain(job.state)
    expect(INTENTS[job.state]).toContain(job.intent)
    expect(job.completedAt !== null).toBe(ENDED.includes(job.state))
    expect(lastEvent === 'end').toBe(ENDED.includes(job.state))
    expect(job.attempt).toBeGreaterThanOrEqual(before.attempt)
    if (job.attempt > 0) expect(job.startedAt).toBe(AT)
    expect(job.fruitlessAttempts).toBeLessThanOrEqual(MAX_FRUITLESS_OUT_OF_MEMORY)
    expect(job.fruitlessAttempts).toBeGreaterThanOrEqual(0)
    if (job.progress.waitsFor) expect(job.state).toBe('paused')
    if (['stopped', 'paused', 'failed'].includes(job.state)) expect(job.reason).toBeTruthy()
    const steps = job.progress.checkpoints.map((checkpoint) => checkpoint.step)
    expect(new Set(steps).size).toBe(steps.length)
  }

  /** What runner and user would do next leads to an end in a few moves. */
  function finish(job: Job): Job {
    for (let moves = 0; moves < 5 && !ENDED.includes(job.state); moves++) {
      if (job.state === 'paused') job = move(job, { type: 'resume' })
      else if (job.state === 'queued') job = move(job, { type: 'claim' })
      else if (job.state === 'preparing') job = move(job, { type: 'prepared' })
      else if (AT_WORK.includes(job.state)) job = move(job, { type: 'completed' })
    }
    return job
  }
})

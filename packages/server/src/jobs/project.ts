/** project: what a frame of the engine changes of its job, and the event that tells it. Pure. */
import { isDeepStrictEqual } from 'node:util'
import type { Frame, FrameOf } from '@mlx-training/contract'
import { fineTunedName } from '../models/names.ts'
import type { JobUpdate, NewEvent } from '../store/port.ts'
import { NO_CURVE, upTo, withStep } from './curve.ts'
import { AT_WORK, transition } from './machine.ts'
import type { Job, JobProgress } from './port.ts'
import { warned } from './warned.ts'

/** null: the frame tells nothing that is kept (hello, alive, the end of the process), or the job isn't at work.
 *  `isThere`: whether a path exists; the engine removes older checkpoints by itself. */
export function project(job: Job, frame: Frame, at: string, isThere: (path: string) => boolean): JobUpdate | null {
  if (!AT_WORK.includes(job.state)) return null
  switch (frame.type) {
    case 'stage':
      return kept(job, { stage: frame.stage }, event(frame))
    case 'prepared': {
      const { type: _, ...prepared } = frame
      const running = transition(job, { type: 'prepared' }, at)
      // One that begins anew knows nothing of returns.
      const anew = frame.resumed_from_step === 0 ? { rollbacks: 0 } : {}
      const progress = { ...rewound(job.progress, frame.resumed_from_step), ...anew }
      if ('conflict' in running) return kept(job, progress, event(frame))
      return {
        change: {
          ...running.change,
          progress: { ...job.progress, ...progress, prepared },
        },
        events: [event(frame), ...running.events],
      }
    }
    case 'step': {
      const { type: _, ...step } = frame
      const cededSeconds = (job.progress.cededSeconds ?? 0) + (step.ceded_seconds ?? 0)
      const curve = withStep(job.progress.curve ?? NO_CURVE, step.step, step.smoothed_loss)
      return kept(job, { step, loss: step.loss ?? job.progress.loss, cededSeconds, curve }, event(frame))
    }
    case 'eval': {
      const { type: _, ...evaluation } = frame
      if (isDeepStrictEqual(evaluation, job.progress.evaluation)) return null // told again after a restart
      const best = frame.best ? { best: { step: frame.step, loss: frame.loss } } : {}
      return kept(job, { evaluation, ...best }, event(frame))
    }
    case 'checkpoint': {
      const { type: _, path, ...checkpoint } = frame
      const known = job.progress.checkpoints.find((other) => other.step === frame.step)
      if (known && isDeepStrictEqual({ ...known, created_at: '' }, { ...checkpoint, path, created_at: '' })) return null
      const others = job.progress.checkpoints.filter((other) => other.step !== frame.step && isThere(other.path))
      const update = kept(
        job,
        {
          checkpoints: [
            ...others.map((other) => (frame.best ? { ...other, best: false } : other)),
            { ...checkpoint, path, created_at: at },
          ],
        },
        { type: 'checkpoint', data: { ...checkpoint, model: fineTunedName(job.name, frame.step) } },
      )
      // One that was there already, and is only told more of, is no progress.
      const isNew = job.progress.checkpoints.every((other) => other.step < frame.step)
      return isNew ? { ...update, change: { ...update.change, fruitlessAttempts: 0 } } : update
    }
    case 'rollback':
      return kept(
        job,
        {
          ...rewound(job.progress, frame.step),
          rollbacks: (job.progress.rollbacks ?? 0) + 1,
          warnings: warned(job.progress, frame.message),
        },
        event(frame),
      )
    case 'memory':
      return kept(job, { memoryLevel: frame.level, warnings: warned(job.progress, frame.message) }, event(frame))
    case 'verified': {
      const { type: _, ...verified } = frame
      return kept(job, { verified, ...(!frame.ok && { warnings: warned(job.progress, frame.message) }) }, event(frame))
    }
    case 'sample':
      return kept(job, {}, event(frame))
    case 'warning':
      return kept(job, { warnings: warned(job.progress, frame.message) }, event(frame))
    default:
      return null
  }
}

function kept(job: Job, progress: Partial<JobProgress>, told: NewEvent): JobUpdate {
  return { change: { progress: { ...job.progress, ...progress } }, events: [told] }
}

/** Steps and checkpoints after the point from which the engine goes on are as if they had not been. */
function rewound({ step, checkpoints, evaluation, curve = NO_CURVE }: JobProgress, to: number): Partial<JobProgress> {
  const left = checkpoints.filter((checkpoint) => checkpoint.step <= to)
  let best: JobProgress['best'] = null
  for (const { step, validation_loss: loss } of left)
    if (loss !== null && (best === null || loss < best.loss)) best = { step, loss }
  return {
    stage: null,
    step: step && to > 0 ? { ...step, step: Math.min(step.step, to) } : null,
    checkpoints: left.map((checkpoint) => ({ ...checkpoint, best: checkpoint.step === best?.step })),
    evaluation: evaluation && evaluation.step <= to ? evaluation : null,
    best,
    curve: upTo(curve, to),
    verified: null,
  }
}

function event(
  frame: FrameOf<'stage' | 'prepared' | 'step' | 'eval' | 'sample' | 'rollback' | 'memory' | 'verified' | 'warning'>,
): NewEvent {
  const { type, ...data } = frame
  return { type, data }
}

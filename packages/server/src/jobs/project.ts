/** project: what a frame of the engine changes of its job, and the event that tells it. Pure. */
import type { Frame, FrameOf } from '@mlx-training/contract'
import { fineTunedName } from '../models/names.ts'
import type { JobUpdate, NewEvent } from '../store/port.ts'
import { AT_WORK, transition } from './machine.ts'
import type { Job, JobProgress } from './port.ts'

const MAX_WARNINGS = 100

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
      if ('conflict' in running) return kept(job, rewound(job.progress, frame), event(frame))
      return {
        change: { ...running.change, progress: { ...job.progress, ...rewound(job.progress, frame), prepared } },
        events: [event(frame), ...running.events],
      }
    }
    case 'step': {
      const { type: _, ...step } = frame
      return kept(job, { step, loss: step.loss ?? job.progress.loss }, event(frame))
    }
    case 'eval':
      return kept(job, { validationLoss: frame.loss }, event(frame))
    case 'checkpoint': {
      const { step, loss, path } = frame
      const others = job.progress.checkpoints.filter((other) => other.step !== step && isThere(other.path))
      const update = kept(
        job,
        { checkpoints: [...others, { step, loss, path, created_at: at }] },
        { type: 'checkpoint', data: { step, loss, model: fineTunedName(job.name, step) } },
      )
      return { ...update, change: { ...update.change, fruitlessAttempts: 0 } }
    }
    case 'warning':
      return kept(
        job,
        { warnings: [...new Set([...job.progress.warnings, frame.message])].slice(-MAX_WARNINGS) },
        event(frame),
      )
    default:
      return null
  }
}

function kept(job: Job, progress: Partial<JobProgress>, told: NewEvent): JobUpdate {
  return { change: { progress: { ...job.progress, ...progress } }, events: [told] }
}

/** Steps and checkpoints after the point from which the engine goes on are as if they had not been. */
function rewound(progress: JobProgress, { resumed_from_step }: FrameOf<'prepared'>): Partial<JobProgress> {
  const { step, checkpoints } = progress
  return {
    stage: null,
    step: step && resumed_from_step > 0 ? { ...step, step: Math.min(step.step, resumed_from_step) } : null,
    checkpoints: checkpoints.filter((checkpoint) => checkpoint.step <= resumed_from_step),
  }
}

function event(frame: FrameOf<'stage' | 'prepared' | 'step' | 'eval' | 'warning'>): NewEvent {
  const { type, ...data } = frame
  return { type, data }
}

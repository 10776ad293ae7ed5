import type { EvaluationState, JobState } from '@mlx-training/sdk'
import pc from './colours.ts'

const COLOURS: Record<JobState, (text: string) => string> = {
  queued: pc.cyan,
  preparing: pc.cyan,
  running: pc.blue,
  paused: pc.yellow,
  stopping: pc.yellow,
  stopped: pc.yellow,
  completed: pc.green,
  failed: pc.red,
}

export const state = (name: JobState): string => COLOURS[name](name)

const OF_EVALUATIONS: Record<EvaluationState, (text: string) => string> = {
  queued: pc.cyan,
  running: pc.blue,
  completed: pc.green,
  failed: pc.red,
  cancelled: pc.yellow,
  interrupted: pc.red,
}

export const evaluationState = (name: EvaluationState): string => OF_EVALUATIONS[name](name)

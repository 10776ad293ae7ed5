import type { JobState } from '@mlx-training/sdk'
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

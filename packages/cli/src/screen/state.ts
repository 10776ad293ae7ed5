import type { JobState } from '@mlx-training/sdk'
import pc from 'picocolors'

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

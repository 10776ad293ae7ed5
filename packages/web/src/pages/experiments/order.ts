import type { JobState } from '@mlx-training/sdk'

/** What needs attention comes first. */
export const JOB_ORDER: readonly JobState[] = [
  'running',
  'preparing',
  'stopping',
  'queued',
  'paused',
  'failed',
  'stopped',
  'completed',
]

import type { JobState } from '@mlx-training/sdk'
import type { ComponentChildren } from 'preact'

export type Tone = 'neutral' | 'info' | 'good' | 'warning' | 'bad'

export function Badge({
  tone = 'neutral',
  live = false,
  children,
}: {
  tone?: Tone
  live?: boolean
  children: ComponentChildren
}) {
  return (
    <span class={`badge ${tone}${live ? ' live' : ''}`}>
      <span class="badge-dot" aria-hidden="true" />
      {children}
    </span>
  )
}

const TONES: Record<JobState, Tone> = {
  queued: 'neutral',
  preparing: 'info',
  running: 'info',
  paused: 'warning',
  stopping: 'warning',
  stopped: 'neutral',
  completed: 'good',
  failed: 'bad',
}

export function StateBadge({ state }: { state: JobState }) {
  return (
    <Badge tone={TONES[state]} live={['preparing', 'running', 'stopping'].includes(state)}>
      {state}
    </Badge>
  )
}

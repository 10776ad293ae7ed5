import type { StatusResponse } from '@mlx-training/sdk'
import { Progress, Stat } from '../../components/facts.tsx'
import { ago, count, duration, megabytes, moment, number, short } from '../../format.ts'

/** Over so many steps the service averages `smoothed_loss`, once there are as many. */
const SMOOTHED = 20

/** How far it is and how well it does, at a glance. */
export function Figures({ status }: { status: StatusResponse }) {
  const { progress, metrics } = status
  const steps = progress.total_steps > 0 ? `${count(progress.current_step)} of ${count(progress.total_steps)}` : null
  return (
    <div class="stats">
      <Stat
        label="Progress"
        value={`${Math.floor(progress.percentage)}%`}
        note={
          <>
            <Progress value={progress.percentage} label="Progress" />
            {steps
              ? `step ${steps}, epoch ${progress.current_epoch} of ${progress.total_epochs}`
              : status.completed_at
                ? 'no step was made'
                : 'not started yet'}
          </>
        }
      />
      <Stat
        label="Loss"
        value={number(metrics.loss)}
        note={
          metrics.smoothed_loss !== null &&
          progress.current_step > 1 &&
          `${number(metrics.smoothed_loss)} over ${Math.min(progress.current_step, SMOOTHED)} steps`
        }
      />
      <Stat
        label="Validation loss"
        value={number(metrics.validation_loss)}
        note={metrics.best_validation_loss !== null && `best ${number(metrics.best_validation_loss)}`}
      />
      <Stat
        label="Tokens/s"
        value={metrics.tokens_per_second > 0 ? short(Math.round(metrics.tokens_per_second)) : '–'}
        note={
          metrics.trained_tokens_per_second
            ? `${short(Math.round(metrics.trained_tokens_per_second))} of them learned`
            : null
        }
      />
      <Stat
        label="Memory"
        value={metrics.gpu_memory_used_mb > 0 ? megabytes(metrics.gpu_memory_used_mb) : '–'}
        note="highest so far"
      />
      <Time status={status} />
    </div>
  )
}

function Time({ status }: { status: StatusResponse }) {
  const { estimated_seconds_remaining: left, started_at: started, completed_at: ended, queue_position: place } = status
  if (place !== null)
    return (
      <Stat
        label="In the queue"
        value={place === 0 ? 'next' : `place ${place + 1}`}
        note={status.estimated_start ? `starts about ${moment(status.estimated_start)}` : null}
      />
    )
  if (left !== null) return <Stat label="Time left" value={duration(left)} note={`started ${ago(started)}`} />
  if (ended && started)
    return (
      <Stat
        label="Took"
        value={duration((Date.parse(ended) - Date.parse(started)) / 1000)}
        note={`ended ${ago(ended)}`}
      />
    )
  return <Stat label="Started" value={ago(started ?? status.created_at)} />
}

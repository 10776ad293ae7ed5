import type { JobState, JobSummary } from '@mlx-training/sdk'
import { StateBadge } from '../../components/badge.tsx'
import { Card, Progress } from '../../components/facts.tsx'
import { count, megabytes, moment, percent } from '../../format.ts'
import { isActive } from '../../live/jobs.ts'

const STATES: JobState[] = ['queued', 'preparing', 'running', 'stopping', 'paused', 'completed', 'stopped', 'failed']
/** Of the jobs at work and in the queue. */
const SHOWN = 8

interface Props {
  jobs: readonly JobSummary[]
  /** Megabytes by experiment, of those at work. */
  memory: ReadonlyMap<string, number>
  most: number
}

export function Queue({ jobs, memory, most }: Props) {
  const counted = STATES.map((state) => [state, jobs.filter(({ status }) => status === state).length] as const)
  const waiting = (job: JobSummary) => job.queue_position ?? -1
  const live = jobs.filter(isActive).toSorted((a, b) => waiting(a) - waiting(b))
  return (
    <Card
      title="Queue"
      actions={<span class="muted small">{most === 1 ? 'one job at a time' : `${most} jobs at a time`}</span>}
    >
      <ul class="server-counts" aria-label="Experiments by state">
        {counted
          .filter(([, n]) => n > 0)
          .map(([state, n]) => (
            <li key={state}>
              <StateBadge state={state} />
              <strong>{count(n)}</strong>
            </li>
          ))}
        {jobs.length === 0 && <li class="muted">No experiment yet</li>}
      </ul>
      {live.length > 0 ? (
        <ul class="server-lines">
          {live.slice(0, SHOWN).map((job) => (
            <li key={job.experiment_name}>
              <div class="row server-between">
                <a href={`/experiments/${encodeURIComponent(job.experiment_name)}`}>{job.experiment_name}</a>
                <span class="muted small">{placeOf(job, memory.get(job.experiment_name))}</span>
              </div>
              {job.queue_position === null && (
                <Progress value={job.percentage} label={`Progress of ${job.experiment_name}`} />
              )}
            </li>
          ))}
          {live.length > SHOWN && <li class="muted small">and {count(live.length - SHOWN)} more in the queue</li>}
        </ul>
      ) : (
        jobs.length > 0 && <p class="muted small">Nothing is at work, nothing waits.</p>
      )}
    </Card>
  )
}

function placeOf(
  { queue_position: place, estimated_start, percentage }: JobSummary,
  memory: number | undefined,
): string {
  if (place === null) return [percent(percentage), ...(memory ? [megabytes(memory)] : [])].join(' · ')
  const start = estimated_start === null ? '' : ` · about ${moment(estimated_start)}`
  return `${place === 0 ? 'next' : `${count(place)} before it`}${start}`
}

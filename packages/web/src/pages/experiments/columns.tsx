import type { JobSummary } from '@mlx-training/sdk'
import { StateBadge } from '../../components/badge.tsx'
import { Progress } from '../../components/facts.tsx'
import { Sparkline } from '../../components/sparkline.tsx'
import type { Column } from '../../components/table.tsx'
import { Tags } from '../../components/tags.tsx'
import { ago, baseName, brief, count, NONE, number, short } from '../../format.ts'
import { setQuery } from '../../router.ts'
import { JOB_ORDER } from './order.ts'

export const COLUMNS: readonly Column<JobSummary>[] = [
  {
    id: 'name',
    label: 'Experiment',
    main: true,
    cell: ({ experiment_name: name, tags }) => (
      <>
        <a href={`/experiments/${encodeURIComponent(name)}`} title={name}>
          {name}
        </a>
        <Tags tags={tags} onChoose={(tag) => setQuery({ tag })} />
      </>
    ),
    sort: (job) => job.experiment_name,
  },
  {
    id: 'state',
    label: 'State',
    cell: (job) => (
      <span class="state-cell">
        <StateBadge state={job.status} />
        {job.queue_position !== null && <span class="muted small">place {job.queue_position + 1}</span>}
      </span>
    ),
    sort: (job) => JOB_ORDER.indexOf(job.status),
  },
  {
    id: 'progress',
    label: 'Progress',
    cell: (job) => (
      <span class="progress-cell">
        <Progress value={job.percentage} label={`Progress of ${job.experiment_name}`} />
        <span class="muted small">
          {job.total_steps > 0 ? `${count(job.current_step)} of ${count(job.total_steps)}` : `${job.percentage}%`}
        </span>
      </span>
    ),
    sort: (job) => job.percentage,
  },
  {
    id: 'loss',
    label: 'Loss',
    cell: (job) => (
      <span class="loss-cell">
        <span class="number">{number(job.loss)}</span>
        <Sparkline
          values={job.loss_curve}
          label={`Loss of ${job.experiment_name}, from ${number(job.loss_curve[0])} to ${number(job.loss_curve.at(-1))}`}
        />
      </span>
    ),
    sort: (job) => job.loss,
  },
  {
    id: 'validation',
    label: 'Best validation',
    align: 'right',
    from: 'medium',
    cell: (job) => number(job.best_validation_loss),
    sort: (job) => job.best_validation_loss,
  },
  {
    id: 'speed',
    label: 'Tokens/s',
    align: 'right',
    cell: (job) => (job.tokens_per_second > 0 ? short(Math.round(job.tokens_per_second)) : NONE),
    sort: (job) => job.tokens_per_second || null,
  },
  {
    id: 'left',
    label: 'Time left',
    align: 'right',
    cell: timeLeft,
    sort: (job) => job.estimated_seconds_remaining,
  },
  {
    id: 'model',
    label: 'Model',
    cell: (job) => (
      <span class="clip" title={job.model}>
        {baseName(job.model)}
      </span>
    ),
    sort: (job) => job.model,
  },
  {
    id: 'method',
    label: 'Method',
    from: 'medium',
    cell: (job) => METHODS[job.method],
    sort: (job) => job.method,
  },
  {
    id: 'data',
    label: 'Data',
    from: 'wide',
    cell: (job) => (
      <span class="clip" title={job.dataset}>
        {baseName(job.dataset)}
      </span>
    ),
    sort: (job) => job.dataset,
  },
  {
    id: 'started',
    label: 'Started',
    align: 'right',
    from: 'wide',
    cell: (job) => ago(job.started_at),
    sort: (job) => -Date.parse(job.started_at),
  },
]

export const METHODS: Record<JobSummary['method'], string> = { full: 'Full', lora: 'LoRA', qlora: 'QLoRA' }

function timeLeft(job: JobSummary): string {
  if (job.estimated_seconds_remaining !== null) return brief(job.estimated_seconds_remaining)
  if (job.estimated_start !== null && job.queue_position !== null) {
    const seconds = (Date.parse(job.estimated_start) - Date.now()) / 1000
    return seconds > 5 ? `in ${brief(seconds)}` : 'next'
  }
  return NONE
}

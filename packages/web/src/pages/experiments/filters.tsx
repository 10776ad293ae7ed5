import type { JobSummary } from '@mlx-training/sdk'
import { Field, Segmented, Select } from '../../components/field.tsx'
import { Icon } from '../../components/icon.tsx'
import { baseName } from '../../format.ts'
import { setQuery } from '../../router.ts'

const STATES = {
  all: () => true,
  active: ({ status }) => ['queued', 'preparing', 'running', 'stopping', 'paused'].includes(status),
  completed: ({ status }) => status === 'completed',
  failed: ({ status }) => status === 'failed' || status === 'stopped',
} satisfies Record<string, (job: JobSummary) => boolean>

type States = keyof typeof STATES

const LABELS: { value: States; label: string }[] = [
  { value: 'all', label: 'All' },
  { value: 'active', label: 'Active' },
  { value: 'completed', label: 'Completed' },
  { value: 'failed', label: 'Stopped or failed' },
]

export interface Filter {
  text: string
  states: States
  model: string
  tag: string
}

/** It is kept in the address, so that a view can be passed on and gone back to. */
export function filterOf(query: URLSearchParams): Filter {
  const states = query.get('state') ?? 'all'
  return {
    text: query.get('q') ?? '',
    states: states in STATES ? (states as States) : 'all',
    model: query.get('model') ?? '',
    tag: query.get('tag') ?? '',
  }
}

export function matches(job: JobSummary, { text, states, model, tag }: Filter): boolean {
  const { experiment_name: name, dataset, method, status, tags } = job
  const said = [name, job.model, dataset, method, status, ...tags].join(' ').toLowerCase()
  const words = text.toLowerCase().split(/\s+/)
  return (
    STATES[states](job) &&
    (model === '' || job.model === model) &&
    (tag === '' || tags.includes(tag)) &&
    words.every((word) => said.includes(word))
  )
}

export function Filters({ jobs, filter }: { jobs: readonly JobSummary[]; filter: Filter }) {
  const models = [...new Set(jobs.map((job) => job.model))].sort()
  // The one in the address, too: a run that had it may have been deleted, and the choice must still be seen.
  const tags = [...new Set([...jobs.flatMap((job) => job.tags), ...(filter.tag ? [filter.tag] : [])])].sort()
  return (
    <search class="filters">
      <div class="search">
        <Field label="Search experiments" quiet>
          {(props) => (
            <input
              {...props}
              type="search"
              placeholder="Search"
              value={filter.text}
              onInput={(event) => setQuery({ q: event.currentTarget.value })}
            />
          )}
        </Field>
        <Icon name="search" />
      </div>
      <Segmented
        label="States"
        value={filter.states}
        options={LABELS}
        onChange={(state) => setQuery({ state: state === 'all' ? null : state })}
      />
      {models.length > 1 && (
        <Field label="Model" quiet>
          {(props) => (
            <Select
              {...props}
              value={filter.model}
              options={[
                { value: '', label: 'All models' },
                ...models.map((model) => ({ value: model, label: baseName(model) })),
              ]}
              onChange={(model) => setQuery({ model })}
            />
          )}
        </Field>
      )}
      {tags.length > 0 && (
        <Field label="Tag" quiet>
          {(props) => (
            <Select
              {...props}
              value={filter.tag}
              options={[{ value: '', label: 'All tags' }, ...tags.map((tag) => ({ value: tag, label: tag }))]}
              onChange={(tag) => setQuery({ tag })}
            />
          )}
        </Field>
      )}
    </search>
  )
}

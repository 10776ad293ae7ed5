import { useState } from 'preact/hooks'
import { Button } from '../components/button.tsx'
import { Card } from '../components/facts.tsx'
import { PageHead } from '../components/page-head.tsx'
import { EmptyState, ErrorState, Skeleton } from '../components/states.tsx'
import { type Sorting, Table } from '../components/table.tsx'
import { jobs, jobsError, useJobs } from '../live/jobs.ts'
import { query, setQuery } from '../router.ts'
import { can } from '../session.ts'
import { useTitle } from '../title.ts'
import { COLUMNS } from './experiments/columns.tsx'
import { Filters, filterOf, matches } from './experiments/filters.tsx'
import { FirstSteps } from './experiments/first-steps.tsx'
import { Summary } from './experiments/summary.tsx'

export default function Experiments() {
  useTitle('Experiments')
  useJobs()
  const all = jobs.value
  return (
    <>
      <PageHead
        title="Experiments"
        lead={all && all.length > 0 && <Summary jobs={all} />}
        actions={
          can('train') && (
            <Button variant="primary" icon="plus" href="/new">
              New run
            </Button>
          )
        }
      />
      {all === null ? (
        jobsError.value ? (
          <ErrorState error={jobsError.value} />
        ) : (
          <Card>
            <Skeleton lines={8} />
          </Card>
        )
      ) : all.length === 0 ? (
        <FirstSteps />
      ) : (
        <List />
      )}
    </>
  )
}

function List() {
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set())
  const all = jobs.value ?? []
  const filter = filterOf(query.value)
  const rows = all.filter((job) => matches(job, filter))
  const names = new Set(all.map((job) => job.experiment_name))
  const chosen = new Set([...selected].filter((name) => names.has(name)))
  const by = query.value.get('sort')
  const sorting: Sorting | undefined = by ? { by, descending: query.value.get('order') === 'down' } : undefined
  return (
    <>
      <div class="toolbar">
        <Filters jobs={all} filter={filter} />
        <div class="actions">
          {chosen.size > 0 && (
            <Button variant="ghost" size="small" onClick={() => setSelected(new Set())}>
              Clear
            </Button>
          )}
          {chosen.size > 1 ? (
            <Button
              variant="primary"
              icon="chart"
              href={`/comparison?runs=${[...chosen].map(encodeURIComponent).join(',')}`}
            >
              Compare {chosen.size}
            </Button>
          ) : (
            <Button icon="chart" disabled>
              Choose runs to compare
            </Button>
          )}
        </div>
      </div>
      <Card flush>
        {rows.length === 0 ? (
          <EmptyState
            icon="search"
            title="No experiment is like that"
            action={{ label: 'Show all', onClick: () => setQuery({ q: null, state: null, model: null, tag: null }) }}
          />
        ) : (
          <Table
            caption="Experiments"
            columns={COLUMNS}
            rows={rows}
            rowKey={(job) => job.experiment_name}
            sorting={sorting}
            onSort={(next) => setQuery({ sort: next.by, order: next.descending ? 'down' : 'up' })}
            selected={chosen}
            onSelect={setSelected}
          />
        )}
      </Card>
    </>
  )
}

import { useMemo, useState } from 'preact/hooks'
import { StateBadge } from '../../components/badge.tsx'
import { Button } from '../../components/button.tsx'
import { Card } from '../../components/facts.tsx'
import { type Column, type Sorting, Table } from '../../components/table.tsx'
import { baseName, count, number, short } from '../../format.ts'
import { jobs } from '../../live/jobs.ts'
import type { ComparedRun } from '../../live/runs.ts'
import { METHODS } from '../experiments/columns.tsx'
import { setNames } from './names.ts'

interface Row {
  run: ComparedRun
  colour: number
  /** Mean of the last 20 steps: one step's loss is that of its few rows. The column's label says so. */
  loss: number | null
  best: number | null
  bestStep: number | null
  speed: number | null
  steps: number
}

/** How each of them did, in numbers; the best validation loss is marked. */
export function Results({ runs, names, version }: { runs: ComparedRun[]; names: string[]; version: number }) {
  const [sorting, setSorting] = useState<Sorting>()
  const rows = useMemo(() => runs.map(rowOf), [runs, version])
  const known = rows.flatMap(({ best }) => (best === null ? [] : [best]))
  const lowest = known.length > 1 ? Math.min(...known) : null
  return (
    <Card title="Results" flush>
      <Table
        caption="Results of the compared experiments"
        columns={columnsOf(names, lowest)}
        rows={rows}
        rowKey={({ run }) => run.name}
        sorting={sorting}
        onSort={setSorting}
      />
    </Card>
  )
}

const jobOf = ({ run }: Row) => jobs.value?.find((job) => job.experiment_name === run.name)

const columnsOf = (names: string[], lowest: number | null): Column<Row>[] => [
  {
    id: 'name',
    label: 'Experiment',
    main: true,
    cell: ({ run, colour }) => (
      <span class="run-name">
        <span class={`swatch curve-${(colour % 10) + 1}`} aria-hidden="true" />
        <a href={`/experiments/${encodeURIComponent(run.name)}`}>{run.name}</a>
      </span>
    ),
    sort: ({ run }) => run.name,
  },
  {
    id: 'state',
    label: 'State',
    cell: (row) => {
      const job = jobOf(row)
      return job ? <StateBadge state={job.status} /> : (row.run.error?.message ?? '–')
    },
  },
  {
    id: 'best',
    label: 'Best validation loss',
    align: 'right',
    cell: ({ best, bestStep }) => (
      <span class={best !== null && best === lowest ? 'changed' : undefined}>
        {number(best)}
        {bestStep !== null && <span class="muted small"> at {count(bestStep)}</span>}
      </span>
    ),
    sort: ({ best }) => best,
  },
  { id: 'loss', label: 'Loss, last 20', align: 'right', cell: ({ loss }) => number(loss), sort: ({ loss }) => loss },
  { id: 'steps', label: 'Steps', align: 'right', cell: ({ steps }) => count(steps), sort: ({ steps }) => steps },
  {
    id: 'speed',
    label: 'Tokens/s',
    align: 'right',
    cell: ({ speed }) => (speed === null ? '–' : short(Math.round(speed))),
    sort: ({ speed }) => speed,
  },
  { id: 'model', label: 'Model', cell: (row) => baseName(jobOf(row)?.model ?? '–') },
  {
    id: 'method',
    label: 'Method',
    cell: (row) => {
      const job = jobOf(row)
      return job ? METHODS[job.method] : '–'
    },
  },
  {
    id: 'remove',
    label: 'Leave out',
    quiet: true,
    align: 'right',
    cell: ({ run }) => (
      <Button
        variant="ghost"
        size="small"
        icon="close"
        label={`Leave ${run.name} out`}
        onClick={() => setNames(names.filter((name) => name !== run.name))}
      />
    ),
  },
]

function rowOf(run: ComparedRun, colour: number): Row {
  const { step, metrics, evaluations } = run.data
  const trained = evaluations.filter((evaluation) => evaluation.step > 0)
  const best = trained.reduce<(typeof trained)[number] | null>(
    (low, one) => (low && low.loss <= one.loss ? low : one),
    null,
  )
  return {
    run,
    colour,
    loss: meanOfLast(metrics.loss.view(), 20),
    best: best?.loss ?? null,
    bestStep: best?.step ?? null,
    speed: meanOfLast(metrics.tokens_per_second.view(), 20),
    steps: step.length > 0 ? step.last() : 0,
  }
}

function meanOfLast(values: Float64Array, many: number): number | null {
  const there = values.slice(-many).filter((value) => !Number.isNaN(value))
  return there.length === 0 ? null : there.reduce((sum, value) => sum + value, 0) / there.length
}

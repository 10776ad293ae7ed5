/** The rows, page by page: as they are trained on, or as they are in the file, with what is wrong with them. */
import type { Dataset } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { Button } from '../../components/button.tsx'
import { Card } from '../../components/facts.tsx'
import { Segmented } from '../../components/field.tsx'
import { EmptyState, ErrorState, Skeleton } from '../../components/states.tsx'
import { count } from '../../format.ts'
import { useLoad } from '../../live/load.ts'
import { setQuery } from '../../router.ts'
import { RowPager } from '../data/row-pager.tsx'
import { Row } from './row.tsx'

const PAGE = 10

export interface RowsProps {
  dataset: Dataset
  /** To be shown, and put in view; null: from the first one. */
  row: number | null
  /** null: no mask can be told of a file with errors. */
  onMask: ((sample: number) => void) | null
}

export function Rows({ dataset: { id, rows: total, report }, row: asked, onMask }: RowsProps) {
  // An address may name a row of another file, or one that cleaning took away.
  const row = asked === null ? null : Math.min(asked, Math.max(0, total - 1))
  const [only, setOnly] = useState<'all' | 'issues'>('all')
  const [view, setView] = useState<'trained' | 'file'>('trained')
  /** Among the rows with findings; all rows go by the address. */
  const [at, setAt] = useState(0)
  const issues = only === 'issues'
  const offset = issues ? at : Math.floor((row ?? 0) / PAGE) * PAGE
  const { data, error, loading, reload } = useLoad(
    (client, signal) => client.datasets.rows(id, { offset, limit: PAGE, issues }, { signal }),
    [id, offset, issues],
  )
  const named = new Set(report.issues.map(({ sample }) => sample).filter((sample) => sample !== null)).size
  const go = (to: number) => (issues ? setAt(to) : setQuery({ row: String(to) }))
  return (
    <div class="stack">
      <div class="row spread">
        <div class="row">
          <Segmented
            label="Which rows"
            value={only}
            onChange={(next) => {
              setOnly(next)
              setAt(0)
            }}
            options={[
              { value: 'all', label: `All ${count(total)}` },
              { value: 'issues', label: `With findings ${count(named)}` },
            ]}
          />
          <Segmented
            label="Show rows"
            value={view}
            onChange={setView}
            options={[
              { value: 'trained', label: 'As trained on' },
              { value: 'file', label: 'As in the file' },
            ]}
          />
        </div>
        {!issues && (
          <RowPager sample={row ?? 0} total={total} onSample={(sample) => setQuery({ row: String(sample) })} />
        )}
      </div>
      {error && !data ? (
        <ErrorState error={error} onRetry={reload} />
      ) : !data ? (
        <Skeleton lines={8} />
      ) : data.rows.length === 0 ? (
        <Card>
          <EmptyState
            icon={issues ? 'check' : 'table'}
            title={issues ? 'No row has a finding' : 'There are no rows here'}
            text={issues ? 'The report names none.' : undefined}
          />
        </Card>
      ) : (
        <ol class={loading ? 'rows stale' : 'rows'}>
          {data.rows.map((one) => (
            <Row key={one.sample} row={one} view={view} target={!issues && one.sample === row} onMask={onMask} />
          ))}
        </ol>
      )}
      {data && (offset > 0 || data.next_offset !== null) && (
        <nav class="row" aria-label="Pages of rows">
          <Button icon="left" disabled={offset === 0} onClick={() => go(Math.max(0, offset - PAGE))}>
            Previous rows
          </Button>
          <span class="muted">
            {count(offset)} to {count(offset + data.rows.length - 1)} of {count(data.total)}
          </span>
          <Button
            icon="right"
            disabled={data.next_offset === null}
            onClick={() => data.next_offset !== null && go(data.next_offset)}
          >
            Next rows
          </Button>
        </nav>
      )}
    </div>
  )
}

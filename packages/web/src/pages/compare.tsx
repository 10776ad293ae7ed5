import { ChartControls } from '../charts/controls.tsx'
import { Card } from '../components/facts.tsx'
import { PageHead } from '../components/page-head.tsx'
import { EmptyState, Skeleton } from '../components/states.tsx'
import { useRuns } from '../live/runs.ts'
import { query } from '../router.ts'
import { useTitle } from '../title.ts'
import { AddRun } from './compare/add-run.tsx'
import { Curves } from './compare/curves.tsx'
import { Differences } from './compare/differences.tsx'
import { Results } from './compare/results.tsx'

export default function Compare() {
  useTitle('Compare')
  const names = [...new Set((query.value.get('runs') ?? '').split(',').filter(Boolean))]
  const compared = useRuns(names)
  const version = compared.version.value
  return (
    <>
      <PageHead
        title="Compare"
        lead={`${names.length} ${names.length === 1 ? 'experiment' : 'experiments'}`}
        back={{ label: 'Experiments', href: '/' }}
        actions={<AddRun names={names} />}
      />
      {names.length === 0 ? (
        <EmptyState
          icon="chart"
          title="Nothing to compare yet"
          text="Choose two or more experiments in the list, or add one here."
          action={{ label: 'To the experiments', href: '/' }}
        />
      ) : (
        <>
          <Results runs={compared.runs} names={names} version={version} />
          <Card title="Curves" actions={<ChartControls />}>
            {compared.runs.some(({ complete, error }) => complete || error) ? (
              <Curves runs={compared.runs} version={version} />
            ) : (
              <Skeleton lines={10} />
            )}
          </Card>
          <Differences names={names} />
        </>
      )}
    </>
  )
}

import type { AcceptedRequest, StatusResponse } from '@mlx-training/sdk'
import { StateBadge } from '../components/badge.tsx'
import { PageHead } from '../components/page-head.tsx'
import { EmptyState, ErrorState, Loading } from '../components/states.tsx'
import { Tabs } from '../components/tabs.tsx'
import { Tags } from '../components/tags.tsx'
import { baseName } from '../format.ts'
import { useLoad } from '../live/load.ts'
import { useRun } from '../live/run.ts'
import type { PageProps } from '../pages.ts'
import { query, setQuery } from '../router.ts'
import { useTitle } from '../title.ts'
import { Actions } from './experiment/actions.tsx'
import { Charts } from './experiment/charts.tsx'
import { Checkpoints } from './experiment/checkpoints.tsx'
import { Configuration } from './experiment/configuration.tsx'
import { Data } from './experiment/data.tsx'
import { Figures } from './experiment/figures.tsx'
import { Log } from './experiment/log.tsx'
import { Notices } from './experiment/notices.tsx'
import { Samples } from './experiment/samples.tsx'
import { METHODS } from './experiments/columns.tsx'

export default function Experiment({ params }: PageProps) {
  const name = params.name ?? ''
  useTitle(name)
  const run = useRun(name)
  const job = run.status.value?.job_id
  const request = useLoad((client, signal) => client.train.request(name, { signal }), [name, job])
  const status = run.status.value
  const error = run.error.value
  const back = { label: 'Experiments', href: '/' }
  if (error && 'status' in error && error.status === 404)
    return (
      <>
        <PageHead title={name} back={back} />
        <EmptyState
          icon="search"
          title="There is no experiment of this name"
          text="It may have been deleted."
          action={{ label: 'All experiments', href: '/' }}
        />
      </>
    )
  if (!status)
    return (
      <>
        <PageHead title={name} back={back} />
        {error ? <ErrorState error={error} /> : <Loading label="Loading the experiment" />}
      </>
    )
  const tabs = [
    { id: 'charts', label: 'Charts', content: () => <Charts run={run} /> },
    { id: 'samples', label: 'Samples', content: () => <Samples run={run} /> },
    { id: 'checkpoints', label: 'Checkpoints', content: () => <Checkpoints status={status} /> },
    { id: 'config', label: 'Configuration', content: () => <Configuration status={status} own={request} /> },
    { id: 'data', label: 'Data', content: () => <Data status={status} request={request} /> },
    { id: 'log', label: 'Events', content: () => <Log run={run} /> },
  ]
  return (
    <>
      <PageHead
        title={name}
        back={back}
        lead={
          <>
            <StateBadge state={status.status} />
            <span>{METHODS[methodOf(status, request.data)]}</span>
            <span title={status.model}>{baseName(status.model)}</span>
            <Tags tags={status.tags} />
          </>
        }
        actions={<Actions status={status} refresh={run.refresh} />}
      />
      <Notices status={status} />
      <Figures status={status} />
      <Tabs
        label="Of this experiment"
        tabs={tabs}
        selected={query.value.get('tab') ?? 'charts'}
        onSelect={(tab) => setQuery({ tab: tab === 'charts' ? null : tab })}
      />
    </>
  )
}

const methodOf = ({ lora_details: { enabled } }: StatusResponse, request: AcceptedRequest | null) =>
  !enabled ? 'full' : request?.lora.use_qlora ? 'qlora' : 'lora'

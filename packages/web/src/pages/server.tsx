import '../styles/server.css'
import { Badge } from '../components/badge.tsx'
import { PageHead } from '../components/page-head.tsx'
import { ErrorState, Skeleton } from '../components/states.tsx'
import { useFresh } from '../live/fresh.ts'
import { isActive } from '../live/jobs.ts'
import { can } from '../session.ts'
import { useTitle } from '../title.ts'
import { Addresses } from './server/addresses.tsx'
import { Engine } from './server/engine.tsx'
import { Keys, OwnKey } from './server/keys.tsx'
import { Overview } from './server/overview.tsx'
import { Providers } from './server/providers.tsx'
import { Queue } from './server/queue.tsx'

const EVERY_MS = 2500

export default function Page() {
  useTitle('Server')
  const { data, error, reload } = useFresh(async (client, signal) => {
    const options = { signal, maxRetries: 0 }
    const [health, { current_provider }, { training_jobs: jobs }] = await Promise.all([
      client.health(options),
      client.providers(options),
      client.train.list(options),
    ])
    // One that ends meanwhile may be deleted, too.
    const statuses = await Promise.all(
      jobs
        .filter(isActive)
        .map(({ experiment_name }) => client.train.status(experiment_name, options).catch(() => null)),
    )
    const memory = new Map(
      statuses.flatMap((status) => (status ? [[status.experiment_name, status.metrics.gpu_memory_used_mb]] : [])),
    )
    return { health, providers: current_provider.available_providers, jobs, memory }
  }, EVERY_MS)
  if (!data)
    return (
      <>
        <PageHead title="Server" />
        {error ? <ErrorState error={error} onRetry={reload} /> : <Skeleton lines={8} />}
      </>
    )
  const { health, providers, jobs, memory } = data
  return (
    <>
      <PageHead
        title="Server"
        lead={
          <>
            <Badge tone={health.status === 'healthy' ? 'good' : 'bad'}>{health.status}</Badge>
            <span>Version {health.version}</span>
          </>
        }
      />
      <Overview health={health} />
      <div class="columns">
        <div class="stack">
          <Engine health={health} />
          <Addresses />
        </div>
        <div class="stack">
          <Queue jobs={jobs} memory={memory} most={health.max_concurrent_jobs} />
          <Providers providers={providers} />
        </div>
      </div>
      {can('admin') ? <Keys /> : <OwnKey />}
    </>
  )
}

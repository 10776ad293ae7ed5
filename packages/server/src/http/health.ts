import { DATASET_FORMATS, type DatasetFormat, PROVIDERS } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import { memory } from '../engine/memory.ts'
import type { Engine } from '../engine/port.ts'
import type { JobService } from '../jobs/port.ts'
import { isReady, type Readiness } from './readiness.ts'
import type { Handler } from './routes.ts'
import { VERSION } from './version.ts'

/** Those of the API reference, which lists them without others. */
const FIRST_FORMATS: readonly DatasetFormat[] = ['alpaca', 'sharegpt']

const STARTED_AT = new Date(performance.timeOrigin).toISOString()

export const health =
  (
    { config, engine, jobs }: { config: Pick<Config, 'maxConcurrentJobs'>; engine: Engine; jobs: JobService },
    readiness: Readiness,
  ): Handler<'health'> =>
  async () => {
    const state = engine.health()
    const [{ active, queued }, checks] = await Promise.all([jobs.counts(), readiness()])
    return {
      status: state.state === 'unavailable' ? 'degraded' : 'healthy',
      version: VERSION,
      service: 'mlx-distributed-training',
      features: {
        lora: true,
        qlora: true,
        dataset_formats: [...FIRST_FORMATS],
        other_dataset_formats: DATASET_FORMATS.filter((format) => !FIRST_FORMATS.includes(format)),
        providers: [...PROVIDERS],
        distributed: true,
      },
      active_jobs: active,
      timestamp: new Date().toISOString(),
      started_at: STARTED_AT,
      queued_jobs: queued,
      max_concurrent_jobs: config.maxConcurrentJobs,
      memory: memory(),
      engine: state,
      ready: isReady(checks),
      checks,
    }
  }

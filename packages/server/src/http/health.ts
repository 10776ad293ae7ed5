import { DATASET_FORMATS, type DatasetFormat, PROVIDERS } from '@mlx-training/contract'
import type { Engine } from '../engine/port.ts'
import type { JobService } from '../jobs/port.ts'
import { isReady, type Readiness } from './readiness.ts'
import type { Handler } from './routes.ts'
import { VERSION } from './version.ts'

/** Those of the API reference, which lists them without others. */
const FIRST_FORMATS: readonly DatasetFormat[] = ['alpaca', 'sharegpt']

export const health =
  ({ engine, jobs }: { engine: Engine; jobs: JobService }, readiness: Readiness): Handler<'health'> =>
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
      queued_jobs: queued,
      engine: state,
      ready: isReady(checks),
      checks,
    }
  }

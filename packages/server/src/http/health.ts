import { DATASET_FORMATS, PROVIDERS } from '@mlx-training/contract'
import type { Engine } from '../engine/port.ts'
import type { JobService } from '../jobs/port.ts'
import type { Handler } from './routes.ts'
import { VERSION } from './version.ts'

export const health =
  ({ engine, jobs }: { engine: Engine; jobs: JobService }): Handler<'health'> =>
  async () => {
    const state = engine.health()
    const { active, queued } = await jobs.counts()
    return {
      status: state.state === 'unavailable' ? 'degraded' : 'healthy',
      version: VERSION,
      service: 'mlx-distributed-training',
      features: {
        lora: true,
        qlora: true,
        dataset_formats: [...DATASET_FORMATS],
        providers: [...PROVIDERS],
        distributed: true,
      },
      active_jobs: active,
      timestamp: new Date().toISOString(),
      queued_jobs: queued,
      engine: state,
    }
  }

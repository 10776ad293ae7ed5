import type { JobService } from '../jobs/port.ts'
import { listFineTuned } from '../models/fine-tuned.ts'
import type { Models } from '../models/port.ts'
import type { Handler } from './routes.ts'

export const models =
  (deps: { models: Models; jobs: JobService }): Handler<'models'> =>
  async () => ({
    models: [...(await deps.models.list()), ...(await listFineTuned(await deps.jobs.list()))],
  })

/** Where the weights of a local model are: a base, or `fine-tuned/NAME[@step-N]` over its own. */
import { ServiceError } from '@mlx-training/contract'
import type { Job, JobService } from '../jobs/port.ts'
import { fineTunedFolder } from '../models/fine-tuned.ts'
import { parseFineTuned } from '../models/names.ts'
import type { ModelRef, Models } from '../models/port.ts'

export interface WeightsDeps {
  models: Pick<Models, 'resolve' | 'ensure'>
  jobs: Pick<JobService, 'get'>
}

/** `folder`: of what was trained; `job`: that trained it. Without a base the folder is a whole model. */
export interface Found {
  base: ModelRef | null
  folder: string | null
  job: Job | null
}

export interface Weights {
  model_path: string
  adapter_path: string | null
}

/** ServiceErrors: not_found and conflict of experiments and checkpoints, those of Models.resolve. Nothing is downloaded. */
export async function findWeights(model: string, { models, jobs }: WeightsDeps): Promise<Found> {
  const name = parseFineTuned(model)
  if (!name) return { base: await models.resolve(model), folder: null, job: null }
  const job = await jobs.get(name.experiment)
  if (!job)
    throw new ServiceError(
      'not_found',
      `There is no experiment "${name.experiment}". GET /models lists the fine-tuned models`,
    )
  const folder = await fineTunedFolder(job, name.step)
  return { base: job.plan.method === 'full' ? null : job.plan.model, folder, job }
}

/** Downloads or imports what is missing. */
export async function weightsOf(model: string, deps: WeightsDeps, signal: AbortSignal): Promise<Weights> {
  const { base, folder } = await findWeights(model, deps)
  if (base === null) return { model_path: folder as string, adapter_path: null }
  return { model_path: await deps.models.ensure(base, { signal }), adapter_path: folder }
}

/** A training job as OpenAI tells fine-tuning jobs. */
import type { FineTuningJob, FineTuningState } from '@mlx-training/contract'
import type { Job } from '../../jobs/port.ts'
import { fineTunedName } from '../../models/names.ts'
import { hyperparametersOf } from './hyperparameters.ts'
import { fileId, fineTuningId, resultsId, unixSeconds } from './ids.ts'

/** There is one for each server. */
const ORGANIZATION = 'org-local'

/** `now`: milliseconds. */
export function fineTuningJob(job: Job, now: number = Date.now()): FineTuningJob {
  const { plan, request } = job
  const hyperparameters = hyperparametersOf(job)
  return {
    id: fineTuningId(job.id),
    object: 'fine_tuning.job',
    created_at: unixSeconds(job.createdAt),
    finished_at: job.completedAt === null ? null : unixSeconds(job.completedAt),
    model: plan.initial?.name ?? request.model_name,
    fine_tuned_model: hasLearned(job) ? fineTunedName(job.name) : null,
    organization_id: ORGANIZATION,
    status: statusOf(job),
    hyperparameters,
    method: { type: 'supervised', supervised: { hyperparameters } },
    training_file: plan.dataset.id ? fileId(plan.dataset.id) : null,
    validation_file: plan.validation?.id ? fileId(plan.validation.id) : null,
    result_files: hasResults(job) ? [resultsId(job.id)] : [],
    trained_tokens: job.completedAt === null ? null : trainedTokens(job),
    error: job.state === 'failed' ? { code: 'training_failed', message: job.reason ?? 'Failed', param: null } : null,
    integrations: [],
    seed: request.seed,
    estimated_finish: estimatedFinish(job, now),
    metadata: plan.metadata ?? null,
  }
}

function statusOf({ state, progress }: Job): FineTuningState {
  switch (state) {
    // The rows are tokenised then, by which the run may yet be refused; one that goes on after a crash has that behind it.
    case 'preparing':
      return progress.prepared === null ? 'validating_files' : 'running'
    case 'stopping':
      return 'running'
    case 'completed':
      return 'succeeded'
    case 'stopped':
      return 'cancelled'
    default:
      return state
  }
}

/** A cancelled one may be used as well: what it had learned was saved. */
const hasLearned = ({ state, progress }: Job) =>
  state === 'completed' || (state === 'stopped' && progress.checkpoints.some(({ step }) => step > 0))

export const hasResults = ({ completedAt, progress }: Job): boolean => completedAt !== null && progress.step !== null

/** Of one epoch, times the share of its rows that were seen, over all epochs. */
function trainedTokens({ request, progress: { prepared, step } }: Job): number {
  if (!prepared || !step || prepared.samples === 0) return 0
  return Math.round(prepared.tokens * Math.min(request.epochs, step.processed_samples / prepared.samples))
}

function estimatedFinish({ state, progress: { step } }: Job, now: number): number | null {
  if (state !== 'running' || step?.seconds_remaining == null) return null
  return Math.ceil(now / 1000 + step.seconds_remaining)
}

import type { FineTuningCheckpoint, JobEvent } from '@mlx-training/contract'
import type { Job } from '../../jobs/port.ts'
import { fineTunedName } from '../../models/names.ts'
import { checkpointId, fineTuningId, unixSeconds } from './ids.ts'

type Saved = Job['progress']['checkpoints'][number]

/** `evaluations`: of the whole job, oldest first. An evaluation is over all held-out rows, so that "full" is no other. */
export function fineTuningCheckpoint(job: Job, saved: Saved, evaluations: readonly JobEvent[]): FineTuningCheckpoint {
  const { step } = saved
  const evaluated = evaluations.findLast(({ data }) => data.step === step)?.data
  const loss = saved.validation_loss ?? numberOrNull(evaluated?.loss)
  const accuracy = numberOrNull(evaluated?.token_accuracy)
  return {
    id: checkpointId(job.id, step),
    object: 'fine_tuning.job.checkpoint',
    created_at: unixSeconds(saved.created_at),
    fine_tuning_job_id: fineTuningId(job.id),
    fine_tuned_model_checkpoint: fineTunedName(job.name, step),
    step_number: step,
    metrics: {
      step,
      train_loss: saved.loss,
      train_mean_token_accuracy: null,
      valid_loss: loss,
      valid_mean_token_accuracy: accuracy,
      full_valid_loss: loss,
      full_valid_mean_token_accuracy: accuracy,
    },
  }
}

const numberOrNull = (value: unknown) => (typeof value === 'number' ? value : null)

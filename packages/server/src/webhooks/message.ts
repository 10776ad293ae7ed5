/** messagesOf: what receivers are told of a job's end. Pure but for the random id. */
import { randomBytes } from 'node:crypto'
import type { Job } from '../jobs/port.ts'
import { fineTunedName } from '../models/names.ts'
import type { NewDelivery } from '../store/port.ts'

const OUTCOMES: Partial<Record<Job['state'], string>> = {
  completed: 'succeeded',
  failed: 'failed',
  stopped: 'stopped',
}

/** One message for all receivers: the same id, and the body that is signed as it stands. */
export function messagesOf(job: Job, urls: readonly string[]): NewDelivery[] {
  const id = `msg_${randomBytes(12).toString('hex')}`
  const body = JSON.stringify(payload(job))
  return urls.map((url) => ({ id, url, body }))
}

/** https://www.standardwebhooks.com: type, time of the event, data. */
function payload(job: Job): object {
  const { progress } = job
  const learned = job.state === 'completed' || progress.checkpoints.length > 0
  return {
    type: `training.job.${OUTCOMES[job.state]}`,
    timestamp: job.completedAt,
    data: {
      job_id: job.id,
      experiment_name: job.name,
      status: job.state,
      /** For /generate; null when nothing was saved. */
      model: learned ? fineTunedName(job.name) : null,
      base_model: job.plan.model.name,
      reason: job.reason,
      attempt: job.attempt,
      current_step: progress.step?.step ?? 0,
      total_steps: progress.prepared?.total_steps ?? 0,
      loss: progress.loss,
      validation_loss: progress.evaluation?.loss ?? null,
      serving_verified: progress.verified?.ok ?? null,
      created_at: job.createdAt,
      started_at: job.startedAt,
      completed_at: job.completedAt,
    },
  }
}

import type { JobSummary, StatusResponse } from '@mlx-training/contract'
import { fineTunedName } from '../models/names.ts'
import { AT_WORK } from './machine.ts'
import type { Job, JobService, Place } from './port.ts'

/** A job as GET /train/{name}/status tells it. Before the first step, counters are 0 and losses null. */
export function statusOf(job: Job, place: Place | undefined): StatusResponse {
  const { request, plan, progress } = job
  const { prepared, step } = progress
  return {
    experiment_name: job.name,
    status: job.state,
    progress: {
      current_epoch: step?.epoch ?? 0,
      total_epochs: request.epochs,
      current_step: stepOf(job),
      total_steps: prepared?.total_steps ?? 0,
      percentage: percentageOf(job),
    },
    metrics: {
      loss: progress.loss,
      learning_rate: step?.learning_rate ?? request.learning_rate,
      tokens_per_second: step?.tokens_per_second ?? 0,
      gpu_memory_used_mb: step?.memory_mb ?? 0,
      trained_tokens_per_second: step?.trained_tokens_per_second ?? 0,
      grad_norm: step?.grad_norm ?? null,
      smoothed_loss: step?.smoothed_loss ?? null,
      padding_share: step?.padding_share ?? null,
      validation_loss: progress.evaluation?.loss ?? null,
      validation_perplexity: progress.evaluation?.perplexity ?? null,
      validation_token_accuracy: progress.evaluation?.token_accuracy ?? null,
      best_validation_loss: progress.best?.loss ?? null,
      ceded_seconds: rounded(progress.cededSeconds ?? 0, 3),
    },
    lora_details: loraDetails(job),
    dataset_details: {
      format: plan.dataset.format,
      total_samples: plan.dataset.samples,
      processed_samples: step?.processed_samples ?? 0,
      trained_samples: prepared?.samples ?? null,
      validation_samples: prepared?.validation_samples ?? null,
      dropped_samples: prepared?.samples_dropped ?? null,
      truncated_samples: prepared?.samples_truncated ?? null,
      tokens: prepared?.tokens ?? null,
      trained_tokens: prepared?.trained_tokens ?? null,
    },
    job_id: job.id,
    model: request.model_name,
    tags: tagsOf(job),
    attempt: job.attempt,
    ...placeOf(job, place),
    reason: job.reason,
    last_interruption: progress.interruption ?? null,
    estimated_seconds_remaining: secondsLeft(job),
    output_dir: plan.outputDir,
    // Stopped before its first step it has saved the model as it began, which has learned nothing.
    checkpoints: progress.checkpoints
      .filter(({ step }) => step > 0)
      .map(({ path: _, ...checkpoint }) => ({ ...checkpoint, model: fineTunedName(job.name, checkpoint.step) })),
    serving_verified: progress.verified?.ok ?? null,
    warnings: [...plan.dataset.warnings, ...progress.warnings],
    created_at: job.createdAt,
    started_at: job.startedAt,
    completed_at: job.completedAt,
  }
}

/** A job as one entry of GET /train. */
function summaryOf(job: Job, place: Place | undefined): JobSummary {
  return {
    experiment_name: job.name,
    status: job.state,
    started_at: job.startedAt ?? job.createdAt,
    ...(job.completedAt !== null && { completed_at: job.completedAt }),
    model: job.request.model_name,
    tags: tagsOf(job),
    lora_enabled: job.plan.method !== 'full',
    job_id: job.id,
    percentage: percentageOf(job),
    loss: job.progress.loss,
    ...placeOf(job, place),
    method: job.plan.method,
    dataset: job.request.dataset.dataset_path,
    current_step: stepOf(job),
    total_steps: job.progress.prepared?.total_steps ?? 0,
    tokens_per_second: job.progress.step?.tokens_per_second ?? 0,
    best_validation_loss: job.progress.best?.loss ?? null,
    estimated_seconds_remaining: secondsLeft(job),
    loss_curve: job.progress.curve?.points.map(([, loss]) => loss) ?? [],
  }
}

/** All of them, newest first, as GET /train tells them. */
export async function summariesOf(jobs: Pick<JobService, 'list' | 'places'>): Promise<JobSummary[]> {
  const [all, places] = [await jobs.list(), await jobs.places()]
  return all.map((job) => summaryOf(job, places.get(job.id)))
}

const tagsOf = ({ request: { tags = [] } }: Job) => [...new Set(tags)]

const secondsLeft = ({ state, progress }: Job) =>
  AT_WORK.includes(state) ? (progress.step?.seconds_remaining ?? null) : null

const placeOf = ({ priority }: Job, place: Place | undefined) => ({
  priority,
  queue_position: place?.position ?? null,
  estimated_start: place?.start ?? null,
})

const stepOf = ({ progress }: Job) => progress.step?.step ?? progress.prepared?.resumed_from_step ?? 0

function percentageOf(job: Job): number {
  if (job.state === 'completed') return 100
  const total = job.progress.prepared?.total_steps ?? 0
  return total === 0 ? 0 : rounded(Math.min(100, (100 * stepOf(job)) / total), 2)
}

function loraDetails({ request, plan, progress: { prepared } }: Job): StatusResponse['lora_details'] {
  const enabled = plan.method !== 'full'
  const trainable = prepared?.trainable_params ?? 0
  const total = prepared?.total_params ?? 0
  const percentage = total === 0 ? 0 : (100 * trainable) / total
  return {
    enabled,
    rank: enabled ? request.lora.lora_r : 0,
    alpha: enabled ? request.lora.lora_alpha : 0,
    target_modules: enabled ? asAsked(prepared?.target_modules, request.lora.lora_target_modules) : [],
    trainable_params: trainable,
    total_params: total,
    // The seed tells 0.17; a rank-1 adapter of a large model would read 0 with two decimals.
    trainable_percentage: rounded(percentage, percentage < 0.1 ? 4 : 2),
  }
}

/** What the engine found, in the order of the request. */
function asAsked(found: string[] | undefined, asked: string[]): string[] {
  const place = (module: string) => (asked.includes(module) ? asked.indexOf(module) : asked.length)
  return found?.toSorted((a, b) => place(a) - place(b)) ?? asked
}

const rounded = (value: number, digits: number) => Number(value.toFixed(digits))

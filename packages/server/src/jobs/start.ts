import type { StartRequest, StartResponse } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { Datasets } from '../datasets/port.ts'
import type { Engine } from '../engine/port.ts'
import type { ClientPaths } from '../files/port.ts'
import type { Models } from '../models/port.ts'
import { estimateSeconds, humanDuration } from './estimate.ts'
import { measurementOf, readMeasurements, rememberedSeconds } from './measured.ts'
import { outputFolder } from './output-folder.ts'
import type { JobService } from './port.ts'
import { type Resolved, resolveTraining } from './resolve.ts'

export interface StartDeps {
  config: Pick<Config, 'roots' | 'home'>
  engine: Engine
  datasets: Datasets
  models: Models
  paths: ClientPaths
  jobs: JobService
}

/**
 * Resolves everything that the request names into a plan that needs nothing more of the user's files, and queues it.
 * ServiceErrors: those of resolving; conflict when the output folder or the name is taken.
 */
export async function startTraining(request: StartRequest, deps: StartDeps): Promise<StartResponse> {
  const outputDir = await outputFolder(request, deps)
  const resolved = await resolveTraining(request, deps)
  const { dataset, plan } = resolved
  const seconds = await secondsOf(request, resolved, deps)
  const job = await deps.jobs.submit({ name: request.experiment_name, request, plan: { ...plan, outputDir } })
  return {
    job_id: job.id,
    experiment_name: job.name,
    status: 'started',
    dataset_info: {
      format: dataset.format,
      total_samples: dataset.samples,
      validation_warnings: dataset.report.warnings,
    },
    lora_enabled: plan.method !== 'full',
    estimated_time: seconds === null ? 'unknown until the model is loaded' : humanDuration(seconds),
    estimated_seconds: seconds,
    queue_position: (await deps.jobs.queuePosition(job)) ?? 0,
    output_dir: outputDir,
  }
}

/**
 * As measured by an estimate or by an earlier job of the same model and method, else by arithmetic. How many tokens the
 * data set has is known only where it was tokenised before; else it goes by its bytes, since start answers at once.
 */
async function secondsOf(request: StartRequest, resolved: Resolved, { config, jobs }: StartDeps) {
  const { health, parameters, dataset, plan } = resolved
  const work = {
    samples: dataset.samples,
    bytes: dataset.report.size_bytes,
    maxSeqLength: request.dataset.max_seq_length,
    epochs: request.epochs,
    batchSize: request.dataset.batch_size,
    gradientAccumulationSteps: request.gradient_accumulation_steps,
    maxSteps: request.max_steps ?? null,
  }
  const measured = [
    ...(await jobs.list()).flatMap((job) => measurementOf(job) ?? []),
    ...(await readMeasurements(config.home)),
  ]
  return (
    rememberedSeconds(request, plan, work, measured) ??
    (parameters === null ? null : estimateSeconds({ ...work, parameters, full: plan.method === 'full' }, health))
  )
}

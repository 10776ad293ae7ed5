import type { StartRequest, StartResponse } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { Engine } from '../engine/port.ts'
import type { ClientPaths } from '../files/port.ts'
import type { Models } from '../models/port.ts'
import { estimateSeconds, humanDuration } from './estimate.ts'
import { keepInitial, resolveInitial } from './initial.ts'
import { measurementOf, readMeasurements, rememberedSeconds } from './measured.ts'
import { outputFolder } from './output-folder.ts'
import type { Job, JobService, Once } from './port.ts'
import { type ResolveDeps, type Resolved, resolveTraining, type TrainingData } from './resolve.ts'
import { checkSpace } from './space.ts'
import type { Sweeper } from './sweeper.ts'

export interface StartDeps extends ResolveDeps {
  config: Pick<Config, 'roots' | 'home'>
  engine: Engine
  models: Models
  paths: ClientPaths
  jobs: JobService
  sweeper: Pick<Sweeper, 'holding'>
}

/** As queueTraining, with the answer of POST /train/start. */
export const startTraining = (
  request: StartRequest,
  deps: StartDeps,
  once: Once | null = null,
): Promise<StartResponse> =>
  queueTraining(request, deps, {
    once,
    answer: (job, position, dataset) => {
      const { method, outputDir, estimatedSeconds: seconds = null } = job.plan
      return {
        job_id: job.id,
        experiment_name: job.name,
        status: 'started',
        dataset_info: {
          format: dataset.format,
          total_samples: dataset.samples,
          validation_warnings: dataset.report.warnings,
        },
        lora_enabled: method !== 'full',
        estimated_time: seconds === null ? 'unknown until the model is loaded' : humanDuration(seconds),
        estimated_seconds: seconds,
        queue_position: position,
        output_dir: outputDir,
      }
    },
  })

export interface Queueing<T> {
  answer: (job: Job, position: number, dataset: TrainingData) => T
  once?: Once | null
  metadata?: Record<string, string> | null
}

/**
 * Resolves everything that the request names into a plan that needs nothing more of the user's files, and queues it; the
 * answer is kept for `once`. ServiceErrors: those of resolving; conflict when the output folder or the name is taken;
 * insufficient_storage when there is no room for what it will write.
 */
export async function queueTraining<T extends object>(
  request: StartRequest,
  deps: StartDeps,
  { answer, once = null, metadata = null }: Queueing<T>,
): Promise<T> {
  return await deps.sweeper.holding(async () => {
    const outputDir = await outputFolder(request, deps)
    const resolved = await resolveTraining(request, deps)
    const { dataset, plan } = resolved
    const initial = await resolveInitial(request, plan, deps.jobs)
    await checkSpace(request, { ...plan, outputDir }, deps.config.home)
    const seconds = await secondsOf(request, resolved, deps)
    return await deps.jobs.submit(
      {
        name: request.experiment_name,
        request,
        plan: {
          ...plan,
          outputDir,
          initial: initial && {
            path: await keepInitial(deps.config.home, initial.folder, plan.method),
            name: initial.name,
          },
          estimatedSeconds: seconds,
          ...(metadata && { metadata }),
        },
      },
      (job, position) => answer(job, position, dataset),
      once,
    )
  })
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

import { readdir, realpath } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { type EngineHealth, ServiceError, type StartRequest, type StartResponse } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { Datasets, Snapshot } from '../datasets/port.ts'
import type { Engine } from '../engine/port.ts'
import type { ClientPaths } from '../files/port.ts'
import { isUnder } from '../files/under.ts'
import { readModelFolder } from '../models/folder.ts'
import type { Models } from '../models/port.ts'
import { checkTargets } from './check-targets.ts'
import { countParameters, estimateSeconds, humanDuration } from './estimate.ts'
import type { Job, JobPlan, JobService, ModelRef } from './port.ts'

export interface StartDeps {
  config: Pick<Config, 'roots' | 'home'>
  engine: Engine
  datasets: Datasets
  models: Models
  paths: ClientPaths
  jobs: JobService
}

interface Base {
  quantization: string | null
  /** null: not known before it is here in MLX form. */
  parameters: number | null
}

/**
 * Resolves everything that the request names into a plan that needs nothing more of the user's files, and queues it.
 * ServiceErrors: unavailable without an engine; those of paths, data set and model with the field that named them;
 * conflict when the output folder or the name is taken.
 */
export async function startTraining(request: StartRequest, deps: StartDeps): Promise<StartResponse> {
  const health = await workingEngine(deps.engine)
  const outputDir = await outputFolder(request, deps)
  const model = await atField('model_name', () => deps.models.resolve(request.model_name))
  const base = await baseOf(model)
  const method = methodOf(request)
  if (method === 'full' && base.quantization !== null) throw fullOnQuantised(request.model_name, base.quantization)
  if (method !== 'full' && model.kind === 'folder') await checkTargets(request, model.path)
  const { dataset_path, dataset_format, validation_path } = request.dataset
  const dataset = await atField('dataset.dataset_path', () => deps.datasets.snapshot(dataset_path, dataset_format))
  const validation =
    validation_path === undefined
      ? null
      : await atField('dataset.validation_path', () => deps.datasets.snapshot(validation_path, undefined))
  const plan: JobPlan = {
    method,
    model,
    dataset: {
      path: dataset.path,
      sha256: dataset.sha256,
      format: dataset.format,
      samples: dataset.samples,
      warnings: dataset.report.warnings,
    },
    validation: validation && { path: validation.path, sha256: validation.sha256, samples: validation.samples },
    outputDir,
  }
  const job = await deps.jobs.submit({ name: request.experiment_name, request, plan })
  const seconds = estimate(request, method, base, dataset, health)
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
    queue_position: (await deps.jobs.queuePosition(job)) ?? 0,
    output_dir: outputDir,
  }
}

/** use_qlora implies use_lora: QLoRA is LoRA over a 4-bit base. */
export function methodOf({ lora }: Pick<StartRequest, 'lora'>): JobPlan['method'] {
  if (lora.use_qlora) return 'qlora'
  return lora.use_lora ? 'lora' : 'full'
}

async function workingEngine(engine: Engine): Promise<EngineHealth> {
  const health = await engine.ready()
  if (health.state !== 'ready')
    throw new ServiceError('unavailable', `Training needs the engine, which is not available: ${health.reason}`)
  return health
}

/** Tells which field of the request an error of a path, data set or model is about. */
async function atField<T>(field: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof ServiceError) || error.status >= 500) throw error
    throw new ServiceError(error.code, error.message, {
      errors: error.errors?.map((one) => ({ ...one, field })) ?? [{ field, message: error.message }],
      retryAfter: error.retryAfter,
      cause: error,
    })
  }
}

async function outputFolder(request: StartRequest, { config, paths, jobs }: StartDeps): Promise<string> {
  const { experiment_name: name, output_dir = join('outputs', request.experiment_name) } = request
  const folder = await atField('output_dir', () => paths.outputFolder(output_dir, config.roots.outputs))
  const all = await jobs.list()
  await refuseReserved(folder, config, all)
  const content = await namesIn(folder)
  const owner = all.find((job) => job.plan.outputDir === folder)
  if (content.length === 0 || owner?.name === name) return folder
  const leftover = !owner && (await namesIn(join(folder, 'checkpoints'))).some((entry) => entry.startsWith('step-'))
  if (leftover && request.overwrite) return folder
  const whose = owner ? `holds the results of experiment "${owner.name}"` : 'is not empty'
  const remedy = leftover ? 'set overwrite to replace the training run in it' : 'empty it'
  throw new ServiceError(
    'conflict',
    `The output folder ${folder} ${whose}: ${owner ? '' : `${remedy}, or `}give another output_dir`,
    { errors: [{ field: 'output_dir', message: owner ? `belongs to experiment "${owner.name}"` : 'is not empty' }] },
  )
}

/** Not where programs keep their own things (.git, .ssh, this server's home), nor in or around another experiment's folder. */
async function refuseReserved(folder: string, { roots, home }: StartDeps['config'], jobs: Job[]): Promise<void> {
  const refuse = (why: string) => {
    const errors = [{ field: 'output_dir', message: why }]
    throw new ServiceError('invalid_path', `The output folder ${folder} ${why}: give another output_dir`, { errors })
  }
  if (isUnder(await realpath(home).catch(() => home), folder)) refuse("is in the server's own folder")
  const allowed = await Promise.all(roots.outputs.map((root) => realpath(root).catch(() => root)))
  const below = allowed.filter((root) => isUnder(root, folder)).map((root) => relative(root, folder))
  if (below.every((path) => path.split(sep).some((part) => part.startsWith('.')))) refuse('is in a hidden folder')
  const other = jobs.find(
    ({ plan: { outputDir } }) => folder !== outputDir && (isUnder(outputDir, folder) || isUnder(folder, outputDir)),
  )
  if (other) refuse(`overlaps with that of experiment "${other.name}"`)
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}

async function baseOf(model: ModelRef): Promise<Base> {
  if (model.kind !== 'folder') return { quantization: null, parameters: null }
  const { quantization } = await readModelFolder(model.path)
  return { quantization, parameters: await countParameters(model.path) }
}

const fullOnQuantised = (model: string, quantization: string) =>
  new ServiceError(
    'invalid_parameters',
    `Full fine-tuning can't change the ${quantization} weights of ${model}: set lora.use_lora (or lora.use_qlora) to true, ` +
      'or name a model that is not quantised',
    { errors: [{ field: 'lora.use_lora', message: `must be true on a ${quantization} base` }] },
  )

function estimate(
  request: StartRequest,
  method: JobPlan['method'],
  base: Base,
  dataset: Snapshot,
  health: EngineHealth,
): number | null {
  if (base.parameters === null) return null
  const work = {
    parameters: base.parameters,
    samples: dataset.samples,
    bytes: dataset.report.size_bytes,
    maxSeqLength: request.dataset.max_seq_length,
    epochs: request.epochs,
    batchSize: request.dataset.batch_size,
    gradientAccumulationSteps: request.gradient_accumulation_steps,
    maxSteps: request.max_steps ?? null,
    full: method === 'full',
  }
  return estimateSeconds(work, health)
}

import { availableParallelism } from 'node:os'
import {
  type DatasetFormat,
  type EngineHealth,
  type EstimateRequest,
  ServiceError,
  type StartRequest,
} from '@mlx-training/contract'
import type { Datasets, Snapshot } from '../datasets/port.ts'
import type { Engine } from '../engine/port.ts'
import { readModelFolder } from '../models/folder.ts'
import type { Models } from '../models/port.ts'
import { checkRequest } from './check-request.ts'
import { checkTargets } from './check-targets.ts'
import { countParameters } from './estimate.ts'
import type { JobPlan, ModelRef } from './port.ts'

/** Rows to train on, and what a start answers of them. */
export type TrainingData = Pick<Snapshot, 'path' | 'sha256' | 'format' | 'samples'> & {
  datasetId?: string | null
  leakage?: Snapshot['leakage']
  report: Pick<Snapshot['report'], 'warnings' | 'size_bytes'>
}

export interface ResolveDeps {
  engine: Pick<Engine, 'ready'>
  /** As the port of data sets has it. */
  datasets: {
    snapshot(
      clientPath: string,
      format: DatasetFormat | undefined,
      options?: Parameters<Datasets['snapshot']>[2],
    ): Promise<TrainingData>
  }
  models: Pick<Models, 'resolve'>
}

/** What a request for training names, found and checked. */
export interface Resolved {
  health: EngineHealth
  /** Parameters of the base; null: not known before it is here in MLX form. */
  parameters: number | null
  dataset: TrainingData
  plan: Omit<JobPlan, 'outputDir'>
}

/**
 * Resolves everything that a request names, so that nothing more of the user's files is needed. ServiceErrors: unavailable
 * without an engine; those of data sets and model with the field that named them.
 */
export async function resolveTraining(request: StartRequest | EstimateRequest, deps: ResolveDeps): Promise<Resolved> {
  checkRequest(request)
  const health = await workingEngine(deps.engine, 'Training')
  checkRanks(request.ranks, health)
  const model = await atField('model_name', () => deps.models.resolve(request.model_name))
  const base = await baseOf(model)
  const method = methodOf(request)
  if (method === 'full' && base.quantization !== null) throw fullOnQuantised(request.model_name, base.quantization)
  if (method !== 'full' && model.kind === 'folder') await checkTargets(request, model.path)
  const { dataset_path, dataset_format, validation_path, columns, tags } = request.dataset
  const dataset = await atField('dataset.dataset_path', () =>
    deps.datasets.snapshot(dataset_path, dataset_format, { columns, tags }),
  )
  const validation =
    validation_path === undefined
      ? null
      : await atField('dataset.validation_path', () =>
          // The names of columns are those of both files, and so is a format that has such names.
          deps.datasets.snapshot(validation_path, columns || tags ? dataset_format : undefined, {
            columns,
            tags,
            trainedOn: dataset_path,
          }),
        )
  return {
    health,
    parameters: base.parameters,
    dataset,
    plan: {
      method,
      model,
      dataset: {
        path: dataset.path,
        sha256: dataset.sha256,
        format: dataset.format,
        samples: dataset.samples,
        warnings: [...leakageIn(validation), ...dataset.report.warnings],
        ...(dataset.datasetId && { id: dataset.datasetId }),
      },
      validation: validation && {
        path: validation.path,
        sha256: validation.sha256,
        samples: validation.samples,
        ...(validation.datasetId && { id: validation.datasetId }),
      },
    },
  }
}

/** A loss on rows that are trained on says nothing. */
function leakageIn(validation: TrainingData | null): string[] {
  const { rows, questions } = validation?.leakage ?? { rows: 0, questions: 0 }
  const told: string[] = []
  if (rows > 0) told.push(`${rows} of ${validation?.samples} rows of validation_path are trained on, too`)
  if (questions > 0)
    told.push(
      `${questions} of ${validation?.samples} rows of validation_path ask what is trained on with another answer`,
    )
  return told
}

/** use_qlora implies use_lora: QLoRA is LoRA over a 4-bit base. */
export function methodOf({ lora }: Pick<StartRequest, 'lora'>): JobPlan['method'] {
  if (lora.use_qlora) return 'qlora'
  return lora.use_lora ? 'lora' : 'full'
}

/** Tells which field of the request an error of a path, data set or model is about. */
export async function atField<T>(field: string, work: () => Promise<T>): Promise<T> {
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

/** ServiceError('unavailable') without an engine; `what` needs one. */
export async function workingEngine(engine: Pick<Engine, 'ready'>, what: string): Promise<EngineHealth> {
  const health = await engine.ready()
  if (health.state !== 'ready')
    throw new ServiceError('unavailable', `${what} needs the engine, which is not available: ${health.reason}`)
  return health
}

/** How many GPUs there are is known to the engine alone. */
function checkRanks(ranks: number, { device }: EngineHealth): void {
  const cores = availableParallelism()
  if (device !== 'cpu' || ranks <= cores) return
  const message = `is ${ranks}, but this machine has ${cores} cores: at most one rank a core. One rank uses all of them, too`
  throw new ServiceError('invalid_parameters', `ranks ${message}`, { errors: [{ field: 'ranks', message }] })
}

async function baseOf(model: ModelRef): Promise<{ quantization: string | null; parameters: number | null }> {
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

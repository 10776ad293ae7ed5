/** A request for a fine-tuning job → the request of POST /train/start that does it. */
import { randomBytes } from 'node:crypto'
import { type FineTuningRequest, ServiceError, type StartRequest } from '@mlx-training/contract'
import { merged } from '../../jobs/clone.ts'
import type { Job } from '../../jobs/port.ts'
import { methodOf } from '../../jobs/resolve.ts'
import { parseFineTuned } from '../../models/names.ts'
import { refused } from '../request.ts'
import { chosen } from './hyperparameters.ts'

/** What docs/training.md says to set first; the rest has the defaults of a start. */
const LORA = { use_lora: true, lora_target_modules: ['all-linear'] }
/** What OpenAI's fields say, and `training` must not say again. */
const TAKEN: [path: string[], by: string][] = [
  [['model_name'], 'model'],
  [['resume_from'], 'model'],
  [['dataset', 'dataset_path'], 'training_file'],
  [['dataset', 'validation_path'], 'validation_file'],
]

export interface Named {
  /** Ids of data sets. */
  training: string
  validation: string | null
  /** Rows to train on. */
  rows: number
  /** Whose model is to be trained further. */
  source: Job | null
}

/** ServiceError('unprocessable') that names what is not supported. */
export function refuseUnsupported({ method, integrations, training }: FineTuningRequest): void {
  if (method && method.type !== 'supervised')
    throw refused('method.type', `must be supervised: ${method.type} is not supported here`)
  if (integrations && integrations.length > 0)
    throw refused(
      'integrations',
      'are not supported: follow …/events, GET /metrics or webhooks (docs/operations.md), and leave them out',
    )
  for (const [path, by] of TAKEN)
    if (path.reduce<unknown>((at, key) => (at as Record<string, unknown> | null)?.[key], training) != null)
      throw refused(`training.${path.join('.')}`, `is told by ${by}: leave it out`)
}

/** Not validated: `training` may hold anything. */
export function startRequest(body: FineTuningRequest, { training, validation, rows, source }: Named): unknown {
  const changes = body.training ?? {}
  const lora = merged(source?.request.lora ?? LORA, changes.lora ?? {}) as Partial<StartRequest['lora']>
  const { use_lora = false, use_qlora = false } = lora
  const method = methodOf({ lora: { use_lora, use_qlora } as StartRequest['lora'] })
  const asked = { ...body.hyperparameters, ...withoutNulls(body.method?.supervised?.hyperparameters) }
  const { epochs, batchSize, learningRate } = chosen(asked, rows, method)
  const step = source && parseFineTuned(body.model)?.step
  const request = {
    experiment_name: nameOf(source?.request.model_name ?? body.model, body.suffix ?? ''),
    model_name: source?.request.model_name ?? body.model,
    epochs,
    learning_rate: learningRate,
    lora,
    dataset: { dataset_path: training, batch_size: batchSize, ...(validation && { validation_path: validation }) },
    ...(source && { resume_from: step == null ? source.name : `${source.name}@step-${step}` }),
    ...(body.seed != null && { seed: body.seed }),
  }
  return merged(request, changes)
}

const withoutNulls = (given: object | null | undefined) =>
  Object.fromEntries(Object.entries(given ?? {}).filter(([, value]) => value !== null))

/** `SmolLM2-135M-Instruct-SUFFIX-1a2b3c4d`: what is in the parts of OpenAI's ft:BASE:ORG:SUFFIX:ID, as a name that folders
 *  and URLs take. At most 99 characters. */
function nameOf(model: string, suffix: string): string {
  const base =
    model
      .replace(/@[^/]*$/, '')
      .replace(/\/+$/, '')
      .split('/')
      .at(-1) ?? ''
  const parts = [slug(base).slice(0, 24), slug(suffix), randomBytes(4).toString('hex')]
  return parts.filter((part) => part !== '').join('-')
}

const slug = (text: string) =>
  text.replaceAll(/[^A-Za-z0-9._-]+/g, '-').replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '')

/** Fields of a start in the words of the request that it was made of. */
const FIELDS: Record<string, string> = {
  model_name: 'model',
  resume_from: 'model',
  'dataset.dataset_path': 'training_file',
  'dataset.validation_path': 'validation_file',
  seed: 'seed',
}

/**
 * An error of a start as one of the facade's: at the field that was sent. A conflict is a 400, since OpenAI's SDKs would
 * send a 409 again; one that asks for that stays.
 */
export function inFacadeWords(error: unknown): unknown {
  if (!(error instanceof ServiceError) || error.status >= 500) return error
  const { code, message, retryAfter, cause } = error
  const final = code === 'conflict' && retryAfter === undefined
  const errors = error.errors?.map((one) => ({ ...one, field: FIELDS[one.field] ?? `training.${one.field}` }))
  return new ServiceError(final ? 'invalid_parameters' : code, message, {
    ...(errors ? { errors } : final && { errors: [{ field: 'training.experiment_name', message }] }),
    ...(retryAfter !== undefined && { retryAfter }),
    cause,
  })
}

/** resume_from: the weights of an earlier experiment that a run begins with. */
import { randomBytes } from 'node:crypto'
import { copyFile, link, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type EstimateRequest, ServiceError, type StartRequest } from '@mlx-training/contract'
import { fineTunedFolder } from '../models/fine-tuned.ts'
import { fineTunedName, parseFineTuned } from '../models/names.ts'
import { modelKey } from './measured.ts'
import type { Job, JobPlan, JobService } from './port.ts'
import { atField } from './resolve.ts'
import { initialFolder } from './sweeper.ts'

type Request = StartRequest | EstimateRequest
type Plan = Pick<JobPlan, 'method' | 'model'>

const FIELD = 'resume_from'
/** Of a checkpoint, what a model is not made of. */
const NO_MODEL = new Set(['optimizer.safetensors', 'state.json'])
const ADAPTER = ['adapters.safetensors', 'adapter_config.json', 'chat_template.jinja']

/**
 * The folder that `resume_from` names, as "NAME" or "NAME@step-N", "fine-tuned/" before it or not; null without the field.
 * ServiceErrors: not_found; conflict when that experiment has learned nothing yet; invalid_parameters when it was trained
 * in another way, at the fields that differ, with both values.
 */
export async function resolveInitial(
  request: Request,
  plan: Plan,
  jobs: Pick<JobService, 'get'>,
): Promise<{ folder: string; name: string } | null> {
  const { resume_from: given } = request
  if (given === undefined) return null
  const name = given.startsWith('fine-tuned/') ? given : `fine-tuned/${given}`
  const { experiment, step } = parseFineTuned(name) ?? { experiment: '', step: null }
  const source = await jobs.get(experiment)
  if (!source) {
    const message = `names the experiment "${experiment}", which is not there: GET /train lists them all`
    throw new ServiceError('not_found', `${FIELD} ${message}`, { errors: [{ field: FIELD, message }] })
  }
  refuseOthers(request, plan, source)
  const folder = await atField(FIELD, () => fineTunedFolder(source, step))
  return { folder, name: fineTunedName(experiment, step ?? undefined) }
}

/** The weights of one run are those of another only where all of this is the same. */
function refuseOthers(request: Request, plan: Plan, source: Job): void {
  const differs = (field: string, now: unknown, then: unknown) => ({
    field,
    message: `is ${told(now)}, but ${source.name} was trained with ${told(then)}: resume_from needs the same`,
  })
  const errors = []
  if (modelKey(plan.model) !== modelKey(source.plan.model))
    errors.push(differs('model_name', plan.model.name, source.plan.model.name))
  if (plan.method !== source.plan.method) errors.push(differs('lora.use_lora', plan.method, source.plan.method))
  else if (plan.method !== 'full') {
    const [now, then] = [shapeOf(request), shapeOf(source.request)]
    for (const field of Object.keys(now) as (keyof typeof now)[])
      if (told(now[field]) !== told(then[field])) errors.push(differs(`lora.${field}`, now[field], then[field]))
  }
  if (errors.length > 0)
    throw new ServiceError('invalid_parameters', errors.map(({ field, message }) => `${field} ${message}`).join('; '), {
      errors,
    })
}

/** Alpha as well: with another scale the same weights are another model. */
const shapeOf = ({ lora }: Request) => ({
  lora_r: lora.lora_r,
  lora_alpha: lora.lora_alpha,
  lora_target_modules: lora.lora_target_modules.toSorted(),
  lora_layers: lora.lora_layers ?? 'all',
  use_dora: lora.use_dora ?? false,
  use_rslora: lora.use_rslora ?? false,
})

const told = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value))

/**
 * A copy of the weights in the home folder, so that the run needs nothing more of that experiment, which may be resumed,
 * replaced or deleted meanwhile. Hard links where that can be: the engine replaces files and never writes into one.
 */
export async function keepInitial(home: string, folder: string, method: JobPlan['method']): Promise<string> {
  const kept = join(initialFolder(home), randomBytes(8).toString('hex'))
  const temporary = `${kept}.tmp`
  await mkdir(temporary, { recursive: true, mode: 0o700 })
  try {
    for (const { name } of (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile())) {
      const isPart = method === 'full' ? !name.startsWith('.') && !NO_MODEL.has(name) : ADAPTER.includes(name)
      if (!isPart) continue
      const [from, to] = [join(folder, name), join(temporary, name)]
      await link(from, to).catch(() => copyFile(from, to))
    }
    await rename(temporary, kept)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw error
  }
  return kept
}

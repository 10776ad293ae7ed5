/** How fast training has been seen to be, to say how long a job of the same kind will take. */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EstimateRequest, FrameOf, StartRequest } from '@mlx-training/contract'
import { approximateTokens, epochsOf, START_SECONDS, type Workload } from './estimate.ts'
import type { Job, JobPlan, ModelRef } from './port.ts'

export interface Measurement {
  /** What decides how long a token takes: model, method, what is adapted. */
  kind: string
  /** What decides how many tokens there are: data set, tokenizer, limits. */
  data: string
  /** Of one epoch. */
  tokens: number
  /** Evaluations and samples included, the start of the process not. */
  secondsPerToken: number
}

type Request = StartRequest | EstimateRequest
type Plan = Pick<JobPlan, 'method' | 'model' | 'dataset'>

const FILE = 'measurements.json'
const KEPT = 100

/** Of a whole run that went through without interruption; null of any other, and of one that downloaded its model. */
export function measurementOf(job: Job): Measurement | null {
  const { prepared, step } = job.progress
  if (job.state !== 'completed' || job.attempt !== 1 || job.plan.model.kind === 'hub') return null
  if (!prepared || !step || job.startedAt === null || job.completedAt === null) return null
  const seconds = (Date.parse(job.completedAt) - Date.parse(job.startedAt)) / 1000
  return measured(
    job.request,
    job.plan,
    prepared.tokens,
    (prepared.tokens * step.step) / prepared.steps_per_epoch,
    seconds,
  )
}

/** Keeps what the engine has estimated. */
export async function remember(home: string, request: Request, plan: Plan, found: FrameOf<'estimated'>): Promise<void> {
  const processed = (found.tokens * found.total_steps) / found.steps_per_epoch
  const measurement = measured(request, plan, found.tokens, processed, found.seconds)
  if (!measurement) return
  const others = (await readMeasurements(home)).filter(
    ({ kind, data }) => kind !== measurement.kind || data !== measurement.data,
  )
  const temporary = join(home, `.${FILE}.tmp`)
  await writeFile(temporary, JSON.stringify([measurement, ...others].slice(0, KEPT)))
  await rename(temporary, join(home, FILE))
}

/** Newest first; what is damaged counts as not there. */
export async function readMeasurements(home: string): Promise<Measurement[]> {
  try {
    return JSON.parse(await readFile(join(home, FILE), 'utf8'))
  } catch {
    return []
  }
}

/** By the first measurement of the same data, else of the same kind of work; null: there is none. */
export function rememberedSeconds(
  request: Request,
  plan: Plan,
  work: Workload,
  measurements: readonly Measurement[],
): number | null {
  const data = dataKey(request, plan)
  const alike = measurements.filter(({ kind }) => kind === kindKey(request, plan))
  const best = alike.find((measurement) => measurement.data === data) ?? alike[0]
  if (!best) return null
  const tokens = measurements.find((measurement) => measurement.data === data)?.tokens ?? approximateTokens(work)
  return Math.round(START_SECONDS + epochsOf(work) * tokens * best.secondsPerToken)
}

function measured(
  request: Request,
  plan: Plan,
  tokens: number,
  processed: number,
  seconds: number,
): Measurement | null {
  const secondsPerToken = (seconds - START_SECONDS) / processed
  if (!(secondsPerToken > 0 && Number.isFinite(secondsPerToken))) return null
  return { kind: kindKey(request, plan), data: dataKey(request, plan), tokens, secondsPerToken }
}

function kindKey({ lora, ranks }: Request, { method, model }: Plan): string {
  const adapted = [lora.lora_r, lora.use_dora, lora.lora_layers ?? null, lora.lora_target_modules.toSorted()]
  return JSON.stringify([modelKey(model), method, ranks, ...(method === 'full' ? [] : adapted)])
}

function dataKey({ dataset }: Request, { model, dataset: { sha256 } }: Plan): string {
  const { max_seq_length, truncation, validation_split } = dataset
  return JSON.stringify([sha256, modelKey(model), max_seq_length, truncation, validation_split ?? null])
}

/** Tells bases apart. */
export const modelKey = (model: ModelRef) => (model.kind === 'hub' ? `${model.repo}@${model.revision}` : model.path)

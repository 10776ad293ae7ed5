import { type ModelInfo, ServiceError } from '@mlx-training/contract'
import type { Job } from '../jobs/port.ts'
import { list } from './cache.ts'
import { folderSize, isWeights, readModelFolder } from './folder.ts'
import { fineTunedName } from './names.ts'

type Saved = Job['progress']['checkpoints'][number]

/** The models that jobs have produced so far, newest job first as given. Jobs without a saved step are left out. */
export async function listFineTuned(jobs: readonly Job[]): Promise<ModelInfo[]> {
  const models: ModelInfo[] = []
  for (const job of jobs) {
    const folder = await newest(job)
    if (!folder) continue
    const base = job.plan.model.kind === 'folder' ? await readModelFolder(job.plan.model.path).catch(() => null) : null
    models.push({
      id: fineTunedName(job.name),
      source: 'fine_tuned',
      architecture: base?.architecture ?? null,
      quantization: job.plan.method === 'qlora' ? '4-bit' : (base?.quantization ?? null),
      size_bytes: await folderSize(folder),
      base_model: job.plan.model.name,
      serving_verified: job.progress.verified?.ok ?? null,
      checkpoints: (await savedCheckpoints(job)).map(({ step }) => fineTunedName(job.name, step)),
    })
  }
  return models
}

/** The folder that holds what a job has learned: its output folder once it has ended with one, else its newest
 *  checkpoint, or the checkpoint of `step`. Throws ServiceError('not_found' | 'conflict') that lists the checkpoints. */
export async function fineTunedFolder(job: Job, step: number | null): Promise<string> {
  if (step === null) {
    const folder = await newest(job)
    if (folder) return folder
    throw new ServiceError(
      'conflict',
      `${fineTunedName(job.name)} has nothing to generate with yet: the job is ${job.state} and has not saved a checkpoint`,
    )
  }
  const saved = await savedCheckpoints(job)
  const found = saved.find((checkpoint) => checkpoint.step === step)
  if (found) return found.path
  const names = saved.map((checkpoint) => fineTunedName(job.name, checkpoint.step)).join(', ')
  throw new ServiceError(
    'not_found',
    `There is no ${fineTunedName(job.name, step)}. Its checkpoints: ${names || 'none'}`,
  )
}

async function newest(job: Job): Promise<string | null> {
  // Stopped before its first step, it has put there the model as it began: no more than the base.
  const ended = job.state === 'completed' || (job.state === 'stopped' && job.progress.checkpoints.some(isTrained))
  if (ended && (await holdsModel(job, job.plan.outputDir))) return job.plan.outputDir
  return (await savedCheckpoints(job)).at(-1)?.path ?? null
}

/** Those still on disk, by step: the engine keeps only some. */
export async function savedCheckpoints(job: Job): Promise<Saved[]> {
  const saved = job.progress.checkpoints.filter(isTrained)
  const here = await Promise.all(saved.map(({ path }) => holdsModel(job, path)))
  return saved.filter((_, i) => here[i]).sort((a, b) => a.step - b.step)
}

const isTrained = ({ step }: Saved) => step > 0

/** An adapter (mlx-lm's adapters.safetensors and adapter_config.json), or a whole model after full fine-tuning. */
async function holdsModel(job: Job, folder: string): Promise<boolean> {
  const names = await list(folder)
  return job.plan.method === 'full'
    ? names.includes('config.json') && names.some(isWeights)
    : names.includes('adapters.safetensors') && names.includes('adapter_config.json')
}

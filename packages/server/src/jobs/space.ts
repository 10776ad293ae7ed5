/** Refuses a run for which the disk has no room, before it takes an hour. */
import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type OPTIMIZERS, ServiceError, type StartRequest } from '@mlx-training/contract'
import { readWeights } from '../models/weights.ts'
import { isTarget } from './check-targets.ts'
import type { JobPlan } from './port.ts'

/** Values that an optimizer keeps for each parameter (docs/training.md). */
const STATE: Record<(typeof OPTIMIZERS)[number], number> = { adamw: 2, adam: 2, adafactor: 0, lion: 1, muon: 2, sgd: 1 }
/** The two newest, the best, and the next while it is written; the result is linked to one of them. */
const CHECKPOINTS = 4
const BYTES_PER_VALUE = 4
/** For what else writes there: the log and the database of all jobs, tokenised data, other programs. */
export const RESERVE_BYTES = 256 << 20

/** ServiceError('insufficient_storage') with figures, when the output folder's or the home's file system is too full. */
export async function checkSpace(
  request: StartRequest,
  plan: Pick<JobPlan, 'method' | 'model' | 'outputDir'>,
  home: string,
): Promise<void> {
  const results = CHECKPOINTS * (await checkpointBytes(request, plan))
  await refuseWithout(plan.outputDir, results)
  await refuseWithout(home, 0)
}

/** The same as a question. */
export async function hasSpace(...run: Parameters<typeof checkSpace>): Promise<boolean> {
  try {
    await checkSpace(...run)
    return true
  } catch (error) {
    if (error instanceof ServiceError && error.code === 'insufficient_storage') return false
    throw error
  }
}

async function refuseWithout(folder: string, results: number): Promise<void> {
  const [free, needed] = [await freeBytes(folder), results + RESERVE_BYTES]
  if (free >= needed) return
  const what = results > 0 ? `${human(results)} for checkpoints and ` : ''
  throw new ServiceError(
    'insufficient_storage',
    `The disk of ${folder} has ${human(free)} free, but this run needs ${human(needed)} there ` +
      `(${what}${human(RESERVE_BYTES)} in reserve): free some space${results > 0 ? ', or give an output_dir elsewhere' : ''}`,
  )
}

/**
 * Of one checkpoint: what is trained, in float32, and the optimizer's values for it. 0 when the model is not here in MLX
 * form, so that its layers are not known: then the reserve must do.
 */
async function checkpointBytes(request: StartRequest, { method, model }: Pick<JobPlan, 'method' | 'model'>) {
  if (model.kind !== 'folder') return 0
  const { tensors } = await readWeights(model.path)
  let trained = 0
  for (const [name, { dtype, shape }] of Object.entries(tensors)) {
    if (method === 'full') trained += shape.reduce((product, size) => product * size, 1)
    else if (isTarget(name, shape, request.lora)) {
      // A layer of m to n has r·(m + n) values beside it; packed 4-bit words hold eight inputs each.
      const [out = 0, input = 0] = shape.slice(-2)
      const layers = shape.slice(0, -2).reduce((product, size) => product * size, 1)
      trained += layers * request.lora.lora_r * (out + input * (dtype === 'U32' ? 8 : 1))
    }
  }
  return trained * BYTES_PER_VALUE * (1 + STATE[request.optimizer])
}

/** On the file system that holds the folder, or will. */
export async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Where nothing can be learned, the run finds out.
    if ((code !== 'ENOENT' && code !== 'ENOTDIR') || dirname(folder) === folder) return Number.POSITIVE_INFINITY
    return await freeBytes(dirname(folder))
  }
}

/** 1536 → "1.5 KiB" */
function human(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  const unit = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** unit
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

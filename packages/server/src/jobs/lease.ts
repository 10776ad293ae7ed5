/** The right to write into a job's output folder, for one attempt at a time: engine/src/mlx_engine/training/lease.py. */
import { randomBytes } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceError } from '@mlx-training/contract'
import type { Job } from './port.ts'

const FILE = '.lease'

/** Takes it from whoever had it. Returns what the engine has to show; ServiceError('insufficient_storage') on a full disk. */
export async function grantLease({ plan, id, attempt }: Pick<Job, 'plan' | 'id' | 'attempt'>): Promise<string> {
  const token = `${id} attempt ${attempt} ${randomBytes(8).toString('hex')}`
  const temporary = join(plan.outputDir, `${FILE}.tmp`)
  try {
    await mkdir(plan.outputDir, { recursive: true })
    await rm(temporary, { force: true })
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(token)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, join(plan.outputDir, FILE))
    return token
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error
    throw new ServiceError('insufficient_storage', `The disk that holds ${plan.outputDir} is full`, { cause: error })
  }
}

/** Nobody may write there any more. */
export async function revokeLease({ plan }: Pick<Job, 'plan'>): Promise<void> {
  await rm(join(plan.outputDir, FILE), { force: true })
}

/** Entry of a thread that checks one file. */
import { parentPort, workerData } from 'node:worker_threads'
import { ServiceError } from '@mlx-training/contract'
import { type Checked, type CheckTask, check } from './check.ts'

export type CheckMessage =
  | { checked: Checked }
  | { refused: { code: ServiceError['code']; message: string; errors: ServiceError['errors'] } }

async function answer(): Promise<CheckMessage> {
  try {
    return { checked: await check(workerData as CheckTask) }
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error
    return { refused: { code: error.code, message: error.message, errors: error.errors } }
  }
}

parentPort?.postMessage(await answer())

/** Entry of a thread that works on data sets: an answer for every message. */
import { parentPort, workerData } from 'node:worker_threads'
import { ServiceError } from '@mlx-training/contract'
import { type JobName, type ResultOf, run, type TaskOf } from './jobs.ts'
import type { ThreadData } from './pool.ts'

export interface Asked<Name extends JobName = JobName> {
  name: Name
  task: TaskOf<Name>
}
export type Answer<Name extends JobName = JobName> =
  | { result: ResultOf<Name> }
  | { refused: { code: ServiceError['code']; message: string; errors: ServiceError['errors'] } }

async function answer({ name, task }: Asked): Promise<Answer> {
  try {
    return { result: await run(name, task) }
  } catch (error) {
    // Anything else ends the thread, and its caller is told why.
    if (!(error instanceof ServiceError)) throw error
    return { refused: { code: error.code, message: error.message, errors: error.errors } }
  }
}

if (parentPort) {
  const port = parentPort
  const { beat, beatMs } = workerData as ThreadData
  setInterval(() => Atomics.add(beat, 0, 1), beatMs)
  port.on('message', async (asked: Asked) => port.postMessage(await answer(asked)))
}

/** offThread: a job of JOBS on a thread of its own, so that the event loop goes on. */
import { availableParallelism } from 'node:os'
import { ServiceError } from '@mlx-training/contract'
import { type JobName, type ResultOf, run, type TaskOf } from './jobs.ts'
import { Pool, Silence } from './pool.ts'
import type { Answer, Asked } from './worker.ts'

/** Threads load JavaScript only: from the sources, as the tests run, everything happens on the one thread. */
const COMPILED = import.meta.url.endsWith('.js')
/** JavaScript's heap of a thread: rows are 16 MiB at most, and what is remembered of them lies outside of it. */
const resourceLimits = { maxOldGenerationSizeMb: 1024, maxYoungGenerationSizeMb: 32 }

/** That may share a large file; each takes 80 MB. */
export const THREADS = Math.min(4, availableParallelism())

const pool = new Pool<Asked, Answer>(new URL('./worker.js', import.meta.url), { resourceLimits })

/** Files named by their descriptors stay open until it is done. ServiceErrors: the job's own; the signal's reason. */
export async function offThread<Name extends JobName>(
  name: Name,
  task: TaskOf<Name>,
  signal?: AbortSignal,
): Promise<ResultOf<Name>> {
  if (!COMPILED) return await run(name, 'threads' in task ? { ...task, threads: 1 } : task)
  const answer = await pool.run({ name, task }, signal).catch((error: unknown) => {
    throw explained(error)
  })
  if ('result' in answer) return answer.result as ResultOf<Name>
  const { code, message, errors } = answer.refused
  throw new ServiceError(code, message, { errors })
}

function explained(error: unknown): unknown {
  if (error instanceof Silence)
    return new ServiceError('timeout', `Reading the data set came to a halt: ${error.message}`, { cause: error })
  if ((error as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') return error
  return new ServiceError(
    'invalid_dataset',
    'The data set takes more memory to read than any row should: split its rows',
    { cause: error },
  )
}

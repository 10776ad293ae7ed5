import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { ServiceError } from '@mlx-training/contract'
import { type Checked, type CheckTask, check } from './check.ts'
import type { CheckMessage } from './check-worker.ts'

/** Threads load JavaScript only: from the sources, as the tests run, everything happens on the one thread. */
const COMPILED = import.meta.url.endsWith('.js')
/** JavaScript's heap of a thread: rows are 16 MiB at most, and what is remembered of them lies outside of it. */
const LIMITS = { maxOldGenerationSizeMb: 1024, maxYoungGenerationSizeMb: 32 }

/** Files that are being checked; others wait their turn. */
const turns = { running: 0, waiting: [] as (() => void)[] }

/** The same as `check`, on a thread of its own, so that the event loop goes on. The file stays open until it is done. */
export async function checkOffThread(task: CheckTask): Promise<Checked> {
  if (!COMPILED) return await check({ ...task, threads: 1 })
  await myTurn()
  const worker = new Worker(new URL('./check-worker.js', import.meta.url), { workerData: task, resourceLimits: LIMITS })
  try {
    const ended = new AbortController()
    const message = await Promise.race([
      once(worker, 'message', ended).then(([each]) => each as CheckMessage),
      once(worker, 'exit', ended).then(() =>
        Promise.reject(new Error('The thread that checks a data set ended early')),
      ),
    ]).finally(() => ended.abort())
    if ('checked' in message) return message.checked
    const { code, message: why, errors } = message.refused
    throw new ServiceError(code, why, { errors })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') throw error
    throw new ServiceError(
      'invalid_dataset',
      'The data set takes more memory to read than any row should: split its rows',
    )
  } finally {
    // Its reads and writes end before the file is closed.
    await worker.terminate()
    turns.running--
    turns.waiting.shift()?.()
  }
}

async function myTurn(): Promise<void> {
  while (turns.running >= availableParallelism()) await new Promise<void>((go) => turns.waiting.push(go))
  turns.running++
}

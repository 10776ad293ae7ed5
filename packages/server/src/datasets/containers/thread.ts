import { on } from 'node:events'
import { Worker } from 'node:worker_threads'
import { FileFault } from '../split/fault.ts'
import type { ExpansionLimits } from './gzip.ts'
import { type Opened, openContainer } from './index.ts'
import type { Source } from './source.ts'
import type { Message, Task } from './worker.ts'

/** Threads load JavaScript only: from the sources, as the tests run, everything happens on the one thread. */
const COMPILED = import.meta.url.endsWith('.js')
/** JavaScript's own heap of a thread that decodes; more than any file needs that is taken apart as it should be. */
const HEAP_MB = 1024
/** Cells live until their row is written: more room for the young takes 15 MB and gains nothing. */
const YOUNG_MB = 16
/** Without a piece for that long, a thread is at something that has no end; a row group takes seconds. */
const SILENT_MS = 60_000
/** Pieces that are made while earlier ones are read. */
const AHEAD = 2

/** openContainer, with the work of tables and Parquet on a thread of their own. */
export async function openOffThread(source: Source, limits: ExpansionLimits, silentMs = SILENT_MS): Promise<Opened> {
  const opened = await openContainer(source, limits)
  if (!COMPILED || opened.kind === 'plain' || source.size === 0) return opened
  return { ...opened, chunks: fromThread(source, opened.kind, limits, silentMs) }
}

async function* fromThread(
  { fd, name }: Source,
  kind: Opened['kind'],
  limits: ExpansionLimits,
  silentMs: number,
): AsyncGenerator<Buffer> {
  const task: Task = { fd, name, limits }
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: task,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: YOUNG_MB },
  })
  const silence = setTimeout(() => worker.emit('error', new Silence()), silentMs)
  try {
    for (let i = 0; i < AHEAD; i++) worker.postMessage(null)
    for await (const [message] of on(worker, 'message', { close: ['exit'] }) as AsyncIterable<[Message]>) {
      if (message.type === 'end') return
      if (message.type === 'fault') throw new FileFault(message.code, message.message, message.line)
      worker.postMessage(null)
      const { buffer, byteOffset, byteLength } = message.bytes
      yield Buffer.from(buffer, byteOffset, byteLength)
      silence.refresh()
    }
    throw new Error('The thread that unpacks a data set ended too early')
  } catch (error) {
    throw explained(error, kind)
  } finally {
    clearTimeout(silence)
    // Its reads of the descriptor end before that is closed.
    await worker.terminate()
  }
}

class Silence extends Error {}

/** What ends a thread is the file's fault where a damaged one can do it: hyparquet loops and rejects at some. */
function explained(error: unknown, kind: Opened['kind']): unknown {
  if (error instanceof FileFault) return error
  if ((error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY')
    return new FileFault(
      'expands_too_far',
      `The file takes more than ${HEAP_MB} MB of memory to decode: write it with smaller rows or row groups`,
    )
  if (kind !== 'parquet') return error
  const why = error instanceof Silence ? 'decoding it has no end' : (error as Error).message
  return new FileFault('bad_parquet', `The Parquet file can't be read: it is damaged (${why})`)
}

/** Entry of the thread that unpacks: sends a piece for every message that asks for one. */
import { parentPort, workerData } from 'node:worker_threads'
import { FileFault } from '../split/fault.ts'
import type { ExpansionLimits } from './gzip.ts'
import { openContainer } from './index.ts'
import { Source } from './source.ts'

export interface Task {
  fd: number
  name: string
  limits: ExpansionLimits
}
export type Message =
  | { type: 'chunk'; bytes: Uint8Array }
  | { type: 'fault'; code: FileFault['code']; message: string; line: number | null }
  | { type: 'end' }

if (parentPort) {
  const port = parentPort
  const { fd, name, limits } = workerData as Task
  const chunks = (await openContainer(await Source.of(fd, name), limits)).chunks[Symbol.asyncIterator]()
  let turn = Promise.resolve()
  port.on('message', () => {
    turn = turn.then(async () => port.postMessage(await next(chunks)))
  })
}

async function next(chunks: AsyncIterator<Buffer>): Promise<Message> {
  try {
    const { value, done } = await chunks.next()
    return done ? { type: 'end' } : { type: 'chunk', bytes: value }
  } catch (error) {
    if (!(error instanceof FileFault)) throw error
    const { code, message, line } = error
    return { type: 'fault', code, message, line }
  }
}

/** Entry of a thread that reads ranges of a file, one for each message. */
import { parentPort, workerData } from 'node:worker_threads'
import { type Range, readRange } from './range.ts'
import { type RangeTask, sharedOf } from './ranges.ts'

const shared = sharedOf(workerData as RangeTask)
parentPort?.on('message', (range: Range) => parentPort?.postMessage(readRange(shared, range)))

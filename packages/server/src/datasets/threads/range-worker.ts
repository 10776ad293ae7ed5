/** Entry of a thread that reads ranges of a file, one for each message. */
import { parentPort, workerData } from 'node:worker_threads'
import { readingOf } from '../formats/index.ts'
import { MAX_ROW_BYTES } from '../split/row.ts'
import { type Range, readRange } from './range.ts'
import type { RangeTask } from './ranges.ts'

const { fd, size, asked, ...maps } = workerData as RangeTask
const reading = readingOf(maps, asked)
parentPort?.on('message', (range: Range) => parentPort?.postMessage(readRange(fd, size, range, reading, MAX_ROW_BYTES)))

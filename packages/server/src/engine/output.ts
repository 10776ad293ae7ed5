/** What an engine process prints: the last lines in memory, everything (to a limit) in a file. */
import { mkdirSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Readable } from 'node:stream'

const TAIL_LINES = 50
const TAIL_CHARACTERS = 64 << 10
/** What Python's faulthandler adds after a crash: the stacks of all threads and the names of its extension modules, on as
 *  many lines as there are, after the one that tells what happened. */
const CRASH_DUMP = /^(?:(?:Current t|T)hread 0x| {2}File ".*", line \d+ in | {2}<no Python frame>|Extension modules: )/
/** Of the file; when full it is kept as `.1` and a new one begun, so a run's log takes at most twice this. */
export const LOG_BYTES = 4 << 20

export class Output {
  #tail = ''
  readonly #path: string | null
  readonly #onLine: ((line: string) => void) | undefined
  readonly #limit: number
  #written = 0
  #queue: Promise<void> = Promise.resolve()

  /** `path`: the log file; null keeps none. `onLine` is told every line that holds something. */
  constructor(path: string | null, onLine?: (line: string) => void, limit = LOG_BYTES) {
    this.#path = path
    this.#onLine = onLine
    this.#limit = limit
  }

  /** Reads until the stream ends, at the file's pace. `inTail`: whether these lines may explain an end (stderr). */
  async drain(stream: Readable, inTail: boolean): Promise<void> {
    stream.setEncoding('utf8')
    let rest = ''
    try {
      for await (const text of stream as AsyncIterable<string>) {
        rest = this.#tell(rest + text)
        if (inTail) this.#tail = (this.#tail + text).slice(-TAIL_CHARACTERS)
        this.#queue = this.#queue.then(() => this.#write(text))
        await this.#queue
      }
    } catch {
      // Cut off while a process is being killed: what came is what there is.
    }
    this.#tell(`${rest}\n`)
  }

  /** Tells the whole lines of a text, and returns what follows them. */
  #tell(text: string): string {
    if (!this.#onLine) return ''
    const lines = text.split(/[\r\n]+/)
    const rest = lines.pop() ?? ''
    for (const line of lines) if (line.trim() !== '') this.#onLine(line)
    return rest.slice(-TAIL_CHARACTERS)
  }

  /** The last lines of stderr that tell something, oldest first. */
  lines(): string[] {
    return this.#tail
      .split(/[\r\n]+/)
      .map((line) => line.trimEnd())
      .filter((line) => line !== '' && !CRASH_DUMP.test(line))
      .slice(-TAIL_LINES)
  }

  // A log that can't be written must not end a training run.
  async #write(text: string): Promise<void> {
    if (this.#path === null) return
    try {
      if (this.#written === 0) mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 })
      if (this.#written > this.#limit) {
        await rename(this.#path, `${this.#path}.1`)
        this.#written = 0
      }
      const file = await open(this.#path, 'a', 0o600)
      try {
        if (this.#written === 0) this.#written = (await file.stat()).size
        await file.appendFile(text)
        this.#written += Buffer.byteLength(text)
      } finally {
        await file.close()
      }
    } catch {
      this.#written = 0
    }
  }
}

/** Pool: threads that take one task after the other, and stay for the next. */
import { availableParallelism } from 'node:os'
import { type ResourceLimits, Worker } from 'node:worker_threads'

/** A thread is kept that long without work: starting one takes a quarter of a second of a core. */
const IDLE_MS = 30_000
/** A thread whose event loop has not turned for that long is at something that has no end. */
const SILENT_MS = 60_000

export interface PoolOptions {
  resourceLimits?: ResourceLimits
  silentMs?: number
  idleMs?: number
}

/** What a thread is given at its start: it adds to `beat` while its event loop turns. */
export interface ThreadData {
  beat: Int32Array<SharedArrayBuffer>
  beatMs: number
}

/** The thread's event loop stood still for too long. */
export class Silence extends Error {}

interface Thread {
  worker: Worker
  beat: Int32Array<SharedArrayBuffer>
  /** Ends it when it stays without work. */
  idle?: NodeJS.Timeout
}

/**
 * As many tasks at a time as there are cores; others wait. A thread that fails, or is left by its caller, is ended, and the
 * next task gets another. Threads without work don't keep the process alive.
 */
export class Pool<Task, Answer> {
  readonly #entry: URL
  readonly #options: Required<PoolOptions>
  readonly #free: Thread[] = []
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(entry: URL, { resourceLimits = {}, silentMs = SILENT_MS, idleMs = IDLE_MS }: PoolOptions = {}) {
    this.#entry = entry
    this.#options = { resourceLimits, silentMs, idleMs }
  }

  /** What the thread answers. Rejects with what ended it, Silence, or the signal's reason; the thread is at an end then. */
  async run(task: Task, signal?: AbortSignal): Promise<Answer> {
    while (this.#running >= availableParallelism()) await new Promise<void>((go) => this.#waiting.push(go))
    this.#running++
    try {
      signal?.throwIfAborted()
      const thread = this.#take()
      try {
        const answer = await this.#ask(thread, task, signal)
        this.#keep(thread)
        return answer
      } catch (error) {
        // Its reads and writes end before the caller closes its files.
        await thread.worker.terminate()
        throw error
      }
    } finally {
      this.#running--
      this.#waiting.shift()?.()
    }
  }

  #take(): Thread {
    const thread = this.#free.pop() ?? this.#start()
    clearTimeout(thread.idle)
    thread.worker.ref()
    return thread
  }

  #start(): Thread {
    const { resourceLimits, silentMs } = this.#options
    const beat = new Int32Array(new SharedArrayBuffer(4))
    const workerData: ThreadData = { beat, beatMs: silentMs / 4 }
    const worker = new Worker(this.#entry, { workerData, resourceLimits })
    const thread = { worker, beat }
    // Whoever waits for it hears of it, too; between tasks it is only forgotten.
    worker.on('error', () => this.#forget(thread))
    worker.on('exit', () => this.#forget(thread))
    return thread
  }

  #keep(thread: Thread): void {
    // Forgotten first: nobody is to be given a thread that is on its way out.
    thread.idle = setTimeout(() => {
      this.#forget(thread)
      void thread.worker.terminate()
    }, this.#options.idleMs)
    thread.idle.unref()
    thread.worker.unref()
    this.#free.push(thread)
  }

  #forget(thread: Thread): void {
    clearTimeout(thread.idle)
    const at = this.#free.indexOf(thread)
    if (at !== -1) this.#free.splice(at, 1)
  }

  #ask({ worker, beat }: Thread, task: Task, signal: AbortSignal | undefined): Promise<Answer> {
    const { silentMs } = this.#options
    const over = new AbortController()
    const answer = new Promise<Answer>((resolve, reject) => {
      const once = (event: string, listener: (value: Answer & Error) => void) => {
        worker.once(event, listener)
        over.signal.addEventListener('abort', () => worker.off(event, listener))
      }
      once('message', resolve)
      once('error', reject)
      once('messageerror', reject)
      once('exit', () => reject(new Error('The thread that reads a data set ended too early')))
      signal?.addEventListener('abort', () => reject(signal.reason), { signal: over.signal })
      let last = -1
      const look = setInterval(() => {
        const now = Atomics.load(beat, 0)
        if (now === last) reject(new Silence(`Nothing was heard of a thread for ${silentMs / 1000} s`))
        last = now
      }, silentMs)
      over.signal.addEventListener('abort', () => clearInterval(look))
    })
    worker.postMessage(task)
    return answer.finally(() => over.abort())
  }
}

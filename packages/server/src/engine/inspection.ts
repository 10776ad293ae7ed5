/** The inspect process: started at first use, ended when idle, started again after a crash. One command at a time. */
import { join } from 'node:path'
import {
  type Command,
  type Frame,
  type FrameOf,
  PreviewRow,
  ServiceError,
  type SupervisionReport,
} from '@mlx-training/contract'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import type { EngineConfig } from './environment.ts'
import { toServiceError } from './errors.ts'
import { explain } from './exit.ts'
import type { Engine, Inspection } from './port.ts'
import { type Deadlines, EngineProcess } from './process.ts'
import { Turns } from './turns.ts'

/** Requests that wait for their turn at most. */
export const INSPECTION_QUEUE = 8

/** Milliseconds that a cancelled command has to end: what it is at then, such as hashing a file, may take longer. */
const CANCEL_MS = 5000

type Asked = Extract<Command, { type: 'inspect' | 'preview' }>

interface Options {
  deadlines?: Partial<Deadlines>
  /** Milliseconds. */
  idle: number
  onCrash(reason: string): void
}

const previewRows = Compile(Type.Array(PreviewRow))

export function createInspection(config: EngineConfig, options: Options): Inspection & Pick<Engine, 'close'> {
  const turns = new Turns(INSPECTION_QUEUE)
  let inspector: Inspector | null = null
  let count = 0
  let closed = false

  function start(): Inspector {
    if (closed) throw shuttingDown()
    // A process on its way out takes no more commands: the next one starts another.
    const started: Inspector = new Inspector(config, options, () => {
      if (inspector === started) inspector = null
    })
    return started
  }

  async function ask(command: Asked, signal: AbortSignal | undefined): Promise<unknown> {
    const endTurn = await turns.next(signal)
    let over = Promise.resolve()
    try {
      inspector ??= start()
      const asked = inspector.ask({ ...command, id: `i${++count}` }, signal)
      over = asked.over
      return await asked.answer
    } finally {
      void over.then(endTurn)
    }
  }

  return {
    async inspect(command, { signal }) {
      return (await ask({ ...command, type: 'inspect', id: '' }, signal)) as SupervisionReport
    },
    async preview(command, { signal }) {
      return (await ask({ ...command, type: 'preview', id: '' }, signal)) as PreviewRow[]
    },
    async close() {
      closed = true
      const last = inspector
      last?.end()
      await last?.gone
    },
  }
}

const shuttingDown = () => new ServiceError('unavailable', 'The server is shutting down', { retryAfter: 5 })

interface Pending {
  id: string
  /** Of the answer, as far as it has come. */
  json: string[]
  resolve(answer: SupervisionReport | PreviewRow[] | null): void
  reject(error: unknown): void
  over(): void
}

/** One process, and the command that it works on. */
class Inspector {
  readonly gone: Promise<void>
  readonly #process: EngineProcess
  readonly #idle: number
  readonly #leave: () => void
  #pending: Pending | null = null
  #idleTimer: NodeJS.Timeout | undefined
  #cancelTimer: NodeJS.Timeout | undefined
  #ending = false
  #lastError: FrameOf<'error'> | null = null

  constructor(config: EngineConfig, options: Options, leave: () => void) {
    this.#idle = options.idle
    this.#leave = leave
    this.#process = new EngineProcess(config, {
      module: 'inspect',
      logFile: join(config.home, 'runs', 'inspection', 'engine.log'),
      deadlines: options.deadlines,
      onFrame: (frame) => this.#handle(frame),
    })
    this.gone = this.#process.exited.then((end) => {
      const reason = this.#lastError?.message ?? explain(end)
      const error = this.#ending
        ? shuttingDown()
        : new ServiceError('unavailable', `The inspection process is gone: ${reason}. Try again`, {
            retryAfter: 1,
            cause: end.log.join('\n'),
          })
      if (!this.#ending) options.onCrash(reason)
      this.#retire()
      this.#settle()?.reject(error)
    })
  }

  /** `over`: when the next command may be sent, which is later than the answer for one that is cancelled. */
  ask(command: Asked, signal: AbortSignal | undefined): { answer: Promise<unknown>; over: Promise<void> } {
    clearTimeout(this.#idleTimer)
    let isOver = () => {}
    const over = new Promise<void>((resolve) => {
      isOver = resolve
    })
    const answer = new Promise<unknown>((resolve, reject) => {
      const cancel = () => {
        this.#process.send({ type: 'cancel', id: command.id })
        this.#cancelTimer = setTimeout(() => this.#kill(), CANCEL_MS)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', cancel, { once: true })
      this.#pending = {
        id: command.id,
        json: [],
        resolve,
        reject,
        over: () => {
          signal?.removeEventListener('abort', cancel)
          isOver()
        },
      }
      this.#process.send(command)
      if (signal?.aborted) cancel()
    })
    return { answer, over }
  }

  end(): void {
    this.#retire()
    this.#process.end()
  }

  #kill(): void {
    this.#retire()
    this.#process.kill()
  }

  #retire(): void {
    this.#ending = true
    this.#leave()
    clearTimeout(this.#idleTimer)
  }

  #handle(frame: Frame): void {
    if (frame.type === 'error' && frame.id === null) this.#lastError = frame
    if (!('id' in frame) || this.#pending?.id !== frame.id) return
    if (frame.type === 'error') this.#settle()?.reject(toServiceError(frame))
    else if (frame.type === 'inspected') this.#settle()?.resolve(frame.report)
    else if (frame.type === 'previewed') {
      this.#pending.json.push(frame.json)
      if (!frame.more) this.#previewed(this.#pending.json.join(''))
    }
  }

  #previewed(json: string): void {
    const rows: unknown = JSON.parse(json)
    if (!previewRows.Check(rows)) throw new Error('it answered with rows that are none')
    this.#settle()?.resolve(rows)
  }

  /** Takes the command off; without one the process waits for the next, but not for ever. */
  #settle(): Pending | null {
    const pending = this.#pending
    this.#pending = null
    clearTimeout(this.#cancelTimer)
    pending?.over()
    if (!this.#ending) this.#idleTimer = setTimeout(() => this.end(), this.#idle)
    return pending
  }
}

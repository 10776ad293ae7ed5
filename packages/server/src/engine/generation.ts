/** The long-lived generation process: started at first use, ended when idle, started again after a crash. */
import { join } from 'node:path'
import { type Frame, type FrameOf, ServiceError } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { EngineConfig } from './environment.ts'
import { toServiceError } from './errors.ts'
import { explain } from './exit.ts'
import type { Engine } from './port.ts'
import { type Deadlines, EngineProcess } from './process.ts'

interface Pending {
  resolve(done: FrameOf<'done'>): void
  reject(error: unknown): void
  onToken?: (text: string, frame: FrameOf<'token'>) => void
}

interface Options {
  deadlines?: Partial<Deadlines>
  /** Milliseconds. */
  idle: number
  onCrash(reason: string): void
  /** Answers are being generated, or no more are. */
  onBusy?(busy: boolean): void
}

type GenerationConfig = EngineConfig & Partial<Pick<Config, 'generation'>>

export function createGeneration(config: GenerationConfig, options: Options): Pick<Engine, 'generate' | 'close'> {
  let server: Server | null = null
  let closed = false
  let open = 0

  function start(): Server {
    // A process on its way out takes no more requests: the next one starts another.
    const started: Server = new Server(config, options, () => {
      if (server === started) server = null
    })
    return started
  }

  return {
    async generate(command, { signal, onToken }) {
      signal?.throwIfAborted()
      if (closed) throw shuttingDown()
      server ??= start()
      if (open++ === 0) options.onBusy?.(true)
      try {
        return await server.generate(command, signal, onToken)
      } finally {
        if (--open === 0) options.onBusy?.(false)
      }
    },
    async close() {
      closed = true
      const last = server
      last?.end()
      await last?.gone
    },
  }
}

const shuttingDown = () => new ServiceError('unavailable', 'The server is shutting down', { retryAfter: 5 })

/** As mlx_engine/serving/settings.py reads them. */
function settingsOf(generation: Config['generation']): Record<string, string> {
  const variables: Record<string, number | null> = {
    MAX_BATCH: generation.maxBatch,
    QUEUE: generation.queue,
    PREFILL_TOKENS: generation.prefillTokens,
    IDLE_SECONDS: generation.idleSeconds,
    MODELS_MB: generation.modelsMb,
    ADAPTERS_MB: generation.adaptersMb,
    PROMPT_CACHE_MB: generation.promptCacheMb,
    KV_MB: generation.kvMb,
  }
  const given = Object.entries(variables).filter(([, value]) => value !== null)
  return Object.fromEntries(given.map(([name, value]) => [`MLX_TRAINING_GENERATION_${name}`, String(value)]))
}

/** One process and the requests that it works on. */
class Server {
  readonly gone: Promise<void>
  readonly #process: EngineProcess
  readonly #pending = new Map<string, Pending>()
  readonly #idle: number
  readonly #leave: () => void
  #idleTimer: NodeJS.Timeout | undefined
  #ending = false
  #count = 0
  #lastError: FrameOf<'error'> | null = null

  constructor(config: GenerationConfig, options: Options, leave: () => void) {
    this.#idle = options.idle
    this.#leave = leave
    this.#process = new EngineProcess(config, {
      module: 'serve',
      logFile: join(config.home, 'runs', 'generation', 'engine.log'),
      deadlines: options.deadlines,
      environment: config.generation && settingsOf(config.generation),
      onFrame: (frame) => this.#handle(frame),
    })
    this.gone = this.#process.exited.then((end) => {
      this.#leave()
      clearTimeout(this.#idleTimer)
      const reason = this.#lastError?.message ?? explain(end)
      if (!this.#ending) options.onCrash(reason)
      for (const { reject } of this.#pending.values())
        reject(
          this.#ending
            ? shuttingDown()
            : new ServiceError('unavailable', `The generation process is gone: ${reason}. Try again`, {
                retryAfter: 1,
                cause: end.log.join('\n'),
              }),
        )
      this.#pending.clear()
    })
  }

  generate(
    command: Parameters<Engine['generate']>[0],
    signal: AbortSignal | undefined,
    onToken: Pending['onToken'] | undefined,
  ): Promise<FrameOf<'done'>> {
    clearTimeout(this.#idleTimer)
    const id = `g${++this.#count}`
    return new Promise<FrameOf<'done'>>((resolve, reject) => {
      const abort = () => {
        this.#process.send({ type: 'cancel', id })
        this.#settle(id)?.reject(signal?.reason)
      }
      const unlisten = () => signal?.removeEventListener('abort', abort)
      signal?.addEventListener('abort', abort)
      this.#pending.set(id, {
        onToken,
        resolve: (done) => {
          unlisten()
          resolve(done)
        },
        reject: (error) => {
          unlisten()
          reject(error)
        },
      })
      this.#process.send({ ...command, type: 'generate', id })
    })
  }

  end(): void {
    this.#ending = true
    this.#leave()
    clearTimeout(this.#idleTimer)
    this.#process.end()
  }

  #handle(frame: Frame): void {
    switch (frame.type) {
      case 'token':
        this.#token(frame)
        break
      case 'done':
        this.#settle(frame.id)?.resolve(frame)
        break
      case 'error':
        if (frame.id === null) this.#lastError = frame
        else this.#settle(frame.id)?.reject(toServiceError(frame))
    }
  }

  /** A reader that fails ends its own request, not the process that serves the others. */
  #token(frame: FrameOf<'token'>): void {
    const { id, text } = frame
    try {
      this.#pending.get(id)?.onToken?.(text, frame)
    } catch (error) {
      this.#process.send({ type: 'cancel', id })
      this.#settle(id)?.reject(error)
    }
  }

  /** Takes a request off the list; without any left the process waits for the next one, but not for ever. */
  #settle(id: string): Pending | undefined {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    if (this.#pending.size === 0 && !this.#ending) {
      clearTimeout(this.#idleTimer)
      this.#idleTimer = setTimeout(() => this.end(), this.#idle)
    }
    return pending
  }
}

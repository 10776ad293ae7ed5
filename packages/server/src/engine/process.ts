/** EngineProcess: one `python -m mlx_engine.MODULE`, from spawn to its end. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { type Command, type Frame, ServiceError } from '@mlx-training/contract'
import { type EngineConfig, engineEnvironment } from './environment.ts'
import type { ProcessEnd } from './exit.ts'
import { lines, ProtocolError, parseFrame } from './frames.ts'
import { memoryShare, oomKills } from './memory.ts'
import { Output } from './output.ts'
import { ownerArgument } from './owner.ts'

export interface Deadlines {
  /** From spawn to the first frame. */
  hello: number
  /** Between frames; the engine sends one every 2 s, whatever it does. */
  silence: number
  /** Without progress, though it gives signs of life: the engine watches itself (hang.py). 0: never ended for that. */
  hang: number
  /** From stop, suspend or end to the process's end. */
  end: number
  /** From the process's end to that of its pipes, which a grandchild may hold open. */
  pipes: number
}

/** Milliseconds. A cold start reads 1 GB of Python packages from the disk. */
export const DEADLINES: Deadlines = { hello: 60_000, silence: 60_000, hang: 1_800_000, end: 10_000, pipes: 2000 }

export interface EngineProcessOptions {
  module: 'probe' | 'train' | 'estimate' | 'evaluate' | 'serve' | 'inspect' | 'gguf'
  /** Log file for stdout and stderr; null keeps none. */
  logFile: string | null
  /** Each line that it prints. */
  onLine?: (line: string) => void
  /** In order, one at a time: the pipe is not read on while the promise is pending. A rejection ends the process. */
  onFrame: (frame: Frame) => Promise<void> | void
  deadlines?: Partial<Deadlines>
  /** Variables beside those that every engine process gets. */
  environment?: Record<string, string>
}

export class EngineProcess {
  readonly pid: number
  /** Resolves once the process is gone and its last frame has been handled. */
  readonly exited: Promise<ProcessEnd>
  readonly #child: ChildProcess
  readonly #deadlines: Deadlines
  readonly #output: Output
  #fault: ProcessEnd['fault'] = null
  #watchdog: NodeJS.Timeout | undefined
  #endTimer: NodeJS.Timeout | undefined
  #greeted = false
  #memoryShare = 0
  readonly #oomKills = oomKills()

  /** ServiceError('unavailable') when Python can't be started. */
  constructor(config: EngineConfig, options: EngineProcessOptions) {
    this.#deadlines = { ...DEADLINES, ...options.deadlines }
    this.#output = new Output(options.logFile, options.onLine)
    this.#child = spawn(config.python, ['-m', `mlx_engine.${options.module}`, ownerArgument(config.home)], {
      // Its own process group: signals go to it and to all that it started, and Ctrl-C in a terminal does not.
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
      env: { ...engineEnvironment(config), ...options.environment },
    })
    const { pid } = this.#child
    if (pid === undefined) {
      this.#child.on('error', () => {})
      throw new ServiceError('unavailable', notStarted(config.python))
    }
    this.pid = pid
    // A command to a process that has just died fails; its exit tells all there is to tell.
    this.#child.on('error', () => {})
    this.#child.stdin?.on('error', () => {})
    this.exited = this.#follow(options.onFrame)
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  send(command: Command): void {
    if (!this.ended) this.#child.stdin?.write(`${JSON.stringify(command)}\n`)
  }

  /** Closes its stdin, upon which it ends. */
  end(): void {
    this.#child.stdin?.end()
    this.expectEnd()
  }

  /** From now on it has `deadlines.end` to be gone. */
  expectEnd(): void {
    const { end } = this.#deadlines
    this.#endTimer ??= setTimeout(() => this.#kill({ kind: 'deadline', detail: seconds(end) }), end)
  }

  kill(): void {
    this.#kill({ kind: 'killed', detail: '' })
  }

  #kill(fault: NonNullable<ProcessEnd['fault']>): void {
    // Once the child has been reaped its number may belong to somebody else.
    if (this.ended) return
    this.#fault ??= fault
    try {
      process.kill(-this.pid, 'SIGKILL')
    } catch {
      this.#child.kill('SIGKILL')
    }
  }

  async #follow(onFrame: EngineProcessOptions['onFrame']): Promise<ProcessEnd> {
    const [stdout, stderr, frames] = [1, 2, 3].map((fd) => this.#child.stdio[fd]) as [Readable, Readable, Readable]
    const gone = new Promise<Pick<ProcessEnd, 'code' | 'signal'>>((resolve) => {
      this.#child.once('exit', (code, signal) => {
        clearTimeout(this.#endTimer)
        if (this.#watchdog) this.#watch(frames)
        resolve({ code, signal })
      })
    })
    const printed = [this.#output.drain(stdout, false), this.#output.drain(stderr, true)]
    await this.#read(frames, onFrame)
    const end = await gone
    const cut = setTimeout(() => [stdout, stderr].map((pipe) => pipe.destroy()), this.#deadlines.pipes)
    await Promise.all(printed)
    clearTimeout(cut)
    this.#child.stdin?.destroy()
    return {
      ...end,
      fault: this.#fault,
      log: this.#output.lines(),
      oomKilled: this.#oomKills === null ? null : oomKills() !== this.#oomKills,
      memoryShare: this.#memoryShare,
    }
  }

  async #read(stream: Readable, onFrame: EngineProcessOptions['onFrame']): Promise<void> {
    this.#watch(stream)
    try {
      for await (const line of lines(stream)) {
        this.#unwatch()
        const frame = parseFrame(line)
        this.#greeted = true
        if (frame.type === 'alive') this.#memoryShare = memoryShare(frame.memory_mb)
        try {
          await onFrame(frame)
        } catch (error) {
          throw new HandlerError(error instanceof Error ? error.message : String(error))
        }
        this.#watch(stream)
      }
    } catch (error) {
      if (error instanceof ProtocolError) this.#kill({ kind: 'protocol', detail: error.message })
      else if (error instanceof HandlerError) {
        this.#fault ??= { kind: 'internal', detail: error.message }
        this.kill()
      }
      // Otherwise the pipe was cut: the exit tells why.
    } finally {
      this.#unwatch()
      stream.destroy()
    }
  }

  #unwatch(): void {
    clearTimeout(this.#watchdog)
    this.#watchdog = undefined
  }

  /**
   * Armed only while this side waits for a frame. When the time is over it waits a little longer: a server that was itself
   * held up (a suspended laptop, SIGSTOP) finds the frames that came meanwhile. Of a process that is gone, what it wrote
   * is in the pipe at once; only a grandchild can still hold that open.
   */
  #watch(stream: Readable): void {
    this.#unwatch()
    if (this.ended) {
      this.#watchdog = setTimeout(() => stream.destroy(), this.#deadlines.pipes)
      return
    }
    const [wait, kind] = this.#greeted
      ? ([this.#deadlines.silence, 'hung'] as const)
      : ([this.#deadlines.hello, 'no_hello'] as const)
    const grace = Math.min(5000, wait / 2)
    this.#watchdog = setTimeout(() => {
      this.#watchdog = setTimeout(() => this.#kill({ kind, detail: seconds(wait) }), grace)
    }, wait - grace)
  }
}

/** What handles the frames failed, not the engine. */
class HandlerError extends Error {}

export function notStarted(python: string): string {
  return existsSync(python)
    ? `The engine's Python (${python}) can't be started: run "npm run setup"`
    : `The engine is not set up: there is no Python at ${python}. Run "npm run setup"`
}

const seconds = (milliseconds: number) => `${milliseconds / 1000} s`

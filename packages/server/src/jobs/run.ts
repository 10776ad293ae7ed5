/** One claimed job, from its model to its end: the only writer of its state meanwhile, fenced by its attempt. */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Frame, ServiceError } from '@mlx-training/contract'
import type { Logger } from 'pino'
import type { Engine, TrainingProcess } from '../engine/port.ts'
import type { Notifier } from '../events/notifier.ts'
import type { Models } from '../models/port.ts'
import type { JobUpdate, Store } from '../store/port.ts'
import { trainCommand } from './command.ts'
import { grantLease, revokeLease } from './lease.ts'
import { AT_WORK, type Input, transition } from './machine.ts'
import { ofError, ofExit } from './outcome.ts'
import { claimFolder } from './output-files.ts'
import type { Job } from './port.ts'
import { project } from './project.ts'
import type { Sweeper } from './sweeper.ts'

export interface RunDependencies {
  store: Store
  engine: Pick<Engine, 'train'>
  models: Pick<Models, 'ensure'>
  notifier: Notifier
  sweeper: Pick<Sweeper, 'sweep'>
  /** Folder for tokenised data sets; may be emptied at any time. */
  tokenCache: string
  log: Pick<Logger, 'info' | 'warn' | 'error' | 'child'>
}

const STAGE_MILLISECONDS = 250
const RETRY_MILLISECONDS = 2000

export class Run {
  /** Resolves to the job once its state has been written, or to null when that could not be; never rejects. */
  readonly done: Promise<Job | null>
  readonly #job: Job
  readonly #deps: RunDependencies
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>
  readonly #download = new AbortController()
  readonly #closing = new AbortController()
  #process: TrainingProcess | null = null
  #asked: 'suspend' | 'stop' | null = null
  #stage = { name: '', done: -1, at: Number.NEGATIVE_INFINITY }

  constructor(job: Job, dependencies: RunDependencies) {
    this.#job = job
    this.#deps = dependencies
    this.#log = dependencies.log.child({ job: job.name, job_id: job.id, attempt: job.attempt })
    this.done = this.#course()
  }

  /** Looks up what the user wants now. */
  async obey(): Promise<void> {
    try {
      this.#follow(await this.#deps.store.jobById(this.#job.id))
    } catch (error) {
      // The next frame's write brings the wish along, too.
      this.#log.warn({ err: error }, 'what is wanted of a job could not be read')
    }
  }

  /** The server goes down: checkpoint and end, to be continued. */
  suspend(): void {
    this.#closing.abort()
    this.#ask('suspend')
  }

  kill(): void {
    this.#process?.kill()
  }

  async #course(): Promise<Job | null> {
    const input = await this.#work()
    // Should that fail, the next attempt takes the lease away.
    await revokeLease(this.#job).catch((error) => this.#log.warn({ err: error }, 'lease kept'))
    return await this.#settle(input)
  }

  async #work(): Promise<Input> {
    const why = () =>
      this.#closing.signal.aborted
        ? 'The server was shut down; the job goes on when it is back'
        : 'Going on after a pause'
    try {
      const modelPath = await this.#model()
      // What an earlier experiment of the name has left in the folder goes first.
      await this.#deps.sweeper.sweep()
      await claimFolder(this.#job.plan.outputDir, this.#job)
      this.#download.signal.throwIfAborted()
      const lease = await grantLease(this.#job)
      this.#download.signal.throwIfAborted()
      const command = trainCommand(this.#job, modelPath, this.#deps.tokenCache, lease)
      this.#process = this.#deps.engine.train(command, (frame) => this.#frame(frame))
      await this.obey()
      return ofExit(await this.#process.exited, this.#asked !== null, why())
    } catch (error) {
      return this.#asked && !this.#process ? { type: 'yielded', reason: why() } : ofError(error)
    }
  }

  async #model(): Promise<string> {
    let written: Promise<unknown> = Promise.resolve()
    const onProgress = (stage: string, done: number, total: number) => {
      if (!this.#isDue(stage, done, total)) return
      const frame = { type: 'stage', stage, done, total } as const
      written = written
        .then(() => this.#write((job) => project(job, frame, now(), existsSync)))
        .catch((error) => this.#log.warn({ err: error }, 'progress was not written'))
    }
    try {
      return await this.#deps.models.ensure(this.#job.plan.model, { onProgress, signal: this.#download.signal })
    } finally {
      await written
    }
  }

  async #frame(frame: Frame): Promise<void> {
    if (frame.type === 'stage' && !this.#isDue(frame.stage, frame.done, frame.total)) return
    if (frame.type === 'error' && frame.traceback) this.#log.warn({ traceback: frame.traceback }, frame.message)
    if (frame.type === 'alive' || frame.type === 'hello' || frame.type === 'error' || frame.type === 'finished') return
    this.#follow(await this.#write((job) => project(job, frame, now(), existsSync)))
  }

  /** A few times a second is enough for stages, and only what is new; their first and last always come through. */
  #isDue(name: string, done: number, total: number): boolean {
    const at = performance.now()
    const isNews = name !== this.#stage.name || done !== this.#stage.done
    const isEarly = name === this.#stage.name && at - this.#stage.at < STAGE_MILLISECONDS && done !== total
    if (!isNews || isEarly) return false
    this.#stage = { name, done, at }
    return true
  }

  #follow(job: Job | null): void {
    if (!job || job.attempt !== this.#job.attempt || !AT_WORK.includes(job.state)) this.#process?.kill()
    else if (job.intent === 'stop') this.#ask('stop')
    else if (job.intent === 'pause') this.#ask('suspend')
  }

  #ask(what: 'suspend' | 'stop'): void {
    if (this.#asked === what || this.#asked === 'stop') return
    this.#asked = what
    this.#download.abort()
    if (what === 'stop') this.#process?.stop()
    else this.#process?.suspend()
  }

  /** While the disk is full the engine waits with its frames, and goes on when there is room. */
  async #write(decide: (job: Job) => JobUpdate | null): Promise<Job | null> {
    const { store, notifier } = this.#deps
    for (;;) {
      try {
        const job = await store.update(this.#job.id, this.#job.attempt, decide)
        notifier.publish('events', this.#job.id)
        return job
      } catch (error) {
        const passing = error instanceof ServiceError && ['insufficient_storage', 'unavailable'].includes(error.code)
        if (!passing || this.#closing.signal.aborted) throw error
        this.#log.warn(`${error.message}; the job waits`)
        await sleep(RETRY_MILLISECONDS, undefined, { signal: this.#closing.signal }).catch(() => {})
      }
    }
  }

  async #settle(input: Input): Promise<Job | null> {
    for (;;) {
      try {
        const job = await this.#write((current) => {
          const result = transition(current, input, now())
          return 'conflict' in result ? null : result
        })
        this.#log.info({ state: job?.state, reason: job?.reason }, `job ${this.#job.name} ${job?.state}`)
        return job
      } catch (error) {
        this.#log.error({ err: error }, 'the end of a run was not written')
        // What can't be written now is put right at the next start, which finds the job at work without a process.
        if (this.#closing.signal.aborted) return null
        await sleep(RETRY_MILLISECONDS, undefined, { signal: this.#closing.signal }).catch(() => {})
      }
    }
  }
}

const now = () => new Date().toISOString()

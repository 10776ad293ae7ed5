/** The real server on a home folder of its own, restarted whenever it has been killed, and what jobs come to in peace. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JobEvent, StatusResponse } from '@mlx-training/contract'
import { enginesOf } from '../../packages/server/src/engine/orphans.ts'
import { openDatabase } from '../../packages/server/src/store/database.ts'
import { ALPACA, makeTinyModel, Server } from '../e2e/support.ts'

export const LEASE_SECONDS = 5
/** Loading the model may take as long as that on a busy machine. */
export const HANG_SECONDS = 8
/** A run is asked to have 256 MB and room for its checkpoints. */
const DISK_MEGABYTES = 400

export const STEPS = 40

const LORA = { use_lora: true, lora_r: 4, lora_alpha: 8, lora_dropout: 0.1 }
const COMMON = { model_name: './tiny', epochs: 1000, max_steps: STEPS, save_steps: 4, lora: LORA, seed: 7 }
const dataset = { dataset_path: ALPACA, batch_size: 2, max_seq_length: 64 }
export const VARIANTS = {
  evaluated: {
    ...COMMON,
    dataset: { ...dataset, validation_split: 0.05 },
    eval_steps: 6,
    load_best_model_at_end: true,
  },
  accumulated: { ...COMMON, dataset, gradient_accumulation_steps: 2 },
  full: { ...COMMON, dataset, lora: { use_lora: false } },
} as const
export type Variant = keyof typeof VARIANTS

/** What is compared: the bits of the result, and of each step its loss. */
export interface Result {
  sha256: string
  losses: Map<number, number>
}

export class World {
  readonly folder = mkdtempSync(join(tmpdir(), 'mlx-training-soak-'))
  /** A small disk of its own, where that is possible: Linux, as root. */
  readonly disk = join(this.folder, 'disk')
  readonly isSmallDisk: boolean
  readonly accepted: string[] = []
  restarts = 0
  #server: Server | null = null
  #environment: Record<string, string> = {}
  #starting: Promise<Server> | null = null
  readonly #baselines = new Map<Variant, Promise<Result>>()

  constructor() {
    mkdirSync(this.disk)
    this.isSmallDisk = mountSmallDisk(this.disk)
    makeTinyModel(join(this.disk, 'tiny'))
  }

  get home(): string {
    return join(this.disk, 'home')
  }

  /** The running server; a dead one is started again, by whoever asks first. */
  async server(): Promise<Server> {
    if (this.#server && isRunning(this.#server)) return this.#server
    this.#starting ??= this.#start().finally(() => {
      this.#starting = null
    })
    return this.#starting
  }

  async #start(): Promise<Server> {
    if (this.#server) this.restarts++
    for (;;) {
      try {
        this.#server = await Server.start(this.disk, {
          MLX_TRAINING_LEASE_SECONDS: String(LEASE_SECONDS),
          LOG_LEVEL: 'warn',
          ...this.#environment,
        })
        return this.#server
      } catch (error) {
        // A failpoint or a full disk ends it before it listens; what it says otherwise is a finding.
        if (!/ended with null|disk is full|no space/i.test(String(error))) throw error
        await sleep(200)
      }
    }
  }

  /** From now on servers get these variables; one that runs without them is terminated. */
  async withEnvironment(environment: Record<string, string>): Promise<void> {
    if (this.#server && JSON.stringify(environment) !== JSON.stringify(this.#environment)) await this.terminate()
    this.#environment = environment
    await this.server()
  }

  /** Its pid, for signals; null: it is not running. */
  get serverPid(): number | null {
    return this.#server && isRunning(this.#server) ? (this.#server.process.pid ?? null) : null
  }

  async killServer(): Promise<void> {
    await this.#server?.kill('SIGKILL')
  }

  /** Milliseconds that it took. */
  async terminate(): Promise<number> {
    const asked = performance.now()
    const code = await this.#server?.stop()
    if (this.#server && code !== 0) throw new Error(`SIGTERM ended the server with ${code}: ${this.said()}`)
    return performance.now() - asked
  }

  said(): string {
    return this.#server?.output.slice(-15).join('\n') ?? ''
  }

  async trainingPids(): Promise<number[]> {
    const engines = await enginesOf(this.home)
    return engines.filter(({ commandLine }) => commandLine.includes('mlx_engine.train')).map(({ pid }) => pid)
  }

  /** Asks again while the server is gone. */
  async request<T = Record<string, unknown>>(method: string, path: string, body?: unknown) {
    for (;;) {
      const server = await this.server()
      try {
        return await server.request<T>(method, path, body)
      } catch (error) {
        if (isRunning(server) && !isCut(error)) throw error
        await sleep(20)
      }
    }
  }

  async status(name: string): Promise<StatusResponse> {
    return (await this.request<StatusResponse>('GET', `/train/${name}/status`)).body
  }

  /** Whether it was accepted for certain. A server that dies meanwhile leaves that open, as it does to its users; one whose
   *  disk was full at that very moment has said so, and must have kept nothing. */
  async submit(name: string, variant: Variant, changes: object = {}): Promise<boolean> {
    const server = await this.server()
    const request = { experiment_name: name, ...VARIANTS[variant], ...changes }
    try {
      const { status, body } = await server.request('POST', '/train/start', request)
      if (status === 507 && (await this.request('GET', `/train/${name}/status`)).status === 404) return false
      if (status >= 300) throw new Error(`start was answered ${status}: ${JSON.stringify(body)}`)
      this.accepted.push(name)
      return true
    } catch (error) {
      if (isCut(error)) return false
      throw error
    }
  }

  /** The last state of a job that goes on by itself, whatever happens to the server. */
  async ends(name: string, seconds = 150): Promise<StatusResponse> {
    const deadline = performance.now() + 1000 * seconds
    for (;;) {
      const status = await this.status(name)
      if (['completed', 'stopped', 'failed'].includes(status.status)) return status
      if (performance.now() > deadline) throw new Error(`${name} is stuck: ${JSON.stringify(status)}\n${this.said()}`)
      await sleep(50)
    }
  }

  async events(name: string): Promise<JobEvent[]> {
    return await (await this.server()).events(name)
  }

  async result(name: string): Promise<Result> {
    const folder = join(this.disk, 'outputs', name)
    const file = (await this.status(name)).lora_details.enabled ? 'adapters.safetensors' : 'model.safetensors'
    const steps = (await this.events(name)).filter(({ type }) => type === 'step')
    return {
      sha256: createHash('sha256')
        .update(readFileSync(join(folder, file)))
        .digest('hex'),
      losses: new Map(steps.map(({ data }) => [data.step as number, data.loss as number])),
    }
  }

  /** Of a run that nothing disturbs. */
  baseline(variant: Variant): Promise<Result> {
    let known = this.#baselines.get(variant)
    if (!known) {
      known = (async () => {
        const name = `undisturbed-${variant}`
        await this.submit(name, variant)
        const { status, reason } = await this.ends(name)
        if (status !== 'completed') throw new Error(`the undisturbed run is ${status}: ${reason}`)
        return await this.result(name)
      })()
      this.#baselines.set(variant, known)
    }
    return known
  }

  /** "ok" */
  integrity(): unknown {
    const database = openDatabase(join(this.home, 'training.db'))
    try {
      return database.pragma('integrity_check')
    } finally {
      database.close()
    }
  }

  /** Ends the server; tells what it left behind. */
  async close(): Promise<string[]> {
    if (this.#server) await this.#server.kill('SIGTERM')
    const left = (await enginesOf(this.home)).map(({ pid, commandLine }) => `${pid} ${commandLine.join(' ')}`)
    if (this.isSmallDisk) execFileSync('umount', ['-l', this.disk])
    rmSync(this.folder, { recursive: true, force: true })
    return left
  }
}

const isRunning = ({ process: { exitCode, signalCode } }: Server) => exitCode === null && signalCode === null

/** fetch's TypeError when the other end is gone. */
const isCut = (error: unknown) => error instanceof TypeError

function mountSmallDisk(folder: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MEGABYTES}m`, 'tmpfs', folder], { stdio: 'ignore' })
    return true
  } catch {
    return false // a container without the right to
  }
}

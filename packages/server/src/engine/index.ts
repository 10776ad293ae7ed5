/** createEngine: the supervisor of everything that runs in Python. */
import { type EngineHealth, ServiceError } from '@mlx-training/contract'
import type { BaseLogger } from 'pino'
import type { Config } from '../config.ts'
import type { EngineConfig } from './environment.ts'
import { estimate } from './estimate.ts'
import { evaluate } from './evaluate.ts'
import { createGeneration } from './generation.ts'
import { createInspection } from './inspection.ts'
import type { Engine } from './port.ts'
import type { Deadlines } from './process.ts'
import { createRightOfWay } from './right-of-way.ts'
import { importGguf, probe, STARTING, type Task } from './tasks.ts'
import { startTraining } from './training.ts'

export interface EngineOptions {
  deadlines?: Partial<Deadlines>
  /** Milliseconds without a request after which the generation process ends; left out, the configuration's. */
  idle?: number
  /** Milliseconds after a failed probe before the next; twice as long each time. */
  reprobe?: number
}

/** It holds 300 MB of libraries and a tokenizer, and takes three seconds to start. */
const INSPECTION_IDLE_MS = 120_000

const LONGEST_PAUSE_MS = 300_000

/** Starts the probe at once, and again while it finds no engine that works. Nothing here throws for want of a Python: `health` tells. */
export function createEngine(
  config: EngineConfig & Partial<Pick<Config, 'generation'>>,
  log: Pick<BaseLogger, 'info' | 'warn' | 'debug'>,
  { deadlines, idle = (config.generation?.idleSeconds ?? 600) * 1000, reprobe = 10_000 }: EngineOptions = {},
): Engine {
  let health = STARTING
  let probing: Task<EngineHealth>
  let again: NodeJS.Timeout | undefined
  let closing = false

  /** What is missing may be set up meanwhile. */
  async function look(pause: number): Promise<void> {
    probing = probe(config, deadlines)
    const before = health
    health = await probing.result
    if (closing) return
    if (health.state === 'ready')
      return log.info({ engine: health }, `engine ready: ${health.device}, ${health.backend}`)
    if (health.reason !== before.reason) log.warn({ engine: health }, `engine unavailable: ${health.reason}`)
    again = setTimeout(() => void look(Math.min(2 * pause, LONGEST_PAUSE_MS)), pause)
    again.unref()
  }
  const looked = look(reprobe)
  const tasks = new Set<Task<unknown>>()
  const rightOfWay = createRightOfWay()
  const generation = createGeneration(config, {
    deadlines,
    idle,
    onBusy: rightOfWay.answers,
    onCrash: (reason) => log.warn({ reason }, 'generation process ended'),
  })

  const inspection = createInspection(config, {
    deadlines,
    idle: Math.min(idle, INSPECTION_IDLE_MS),
    onCrash: (reason) => log.warn({ reason }, 'inspection process ended'),
  })

  async function run<T>(task: Task<T>): Promise<T> {
    tasks.add(task)
    return await task.result.finally(() => tasks.delete(task))
  }

  function mustBeAvailable(): void {
    if (health.state === 'unavailable')
      throw new ServiceError('unavailable', health.reason ?? 'The engine is unavailable', { retryAfter: 60 })
  }

  return {
    health: () => health,
    ready: () => looked.then(() => health),
    train(command, onFrame) {
      mustBeAvailable()
      return startTraining(config, command, onFrame, log, deadlines, rightOfWay)
    },
    async generate(command, options) {
      mustBeAvailable()
      return generation.generate(command, options)
    },
    async inspect(command, options) {
      mustBeAvailable()
      return inspection.inspect(command, options)
    },
    async preview(command, options) {
      mustBeAvailable()
      return inspection.preview(command, options)
    },
    async importGguf(ggufPath, outputPath, onStage) {
      mustBeAvailable()
      return await run(importGguf(config, ggufPath, outputPath, onStage, deadlines))
    },
    async estimate(command, { signal }) {
      mustBeAvailable()
      signal?.throwIfAborted()
      const task = estimate(config, command, deadlines)
      signal?.addEventListener('abort', task.cancel)
      try {
        return await run(task)
      } catch (error) {
        throw signal?.aborted ? signal.reason : error
      } finally {
        signal?.removeEventListener('abort', task.cancel)
      }
    },
    async evaluate(command, { signal, onStage }) {
      mustBeAvailable()
      return await evaluate(config, command, { signal, onStage, deadlines, run })
    },
    async close() {
      closing = true
      clearTimeout(again)
      probing.cancel()
      const running = [...tasks]
      for (const task of running) task.cancel()
      await Promise.allSettled([
        generation.close(),
        inspection.close(),
        probing.result,
        ...running.map(({ result }) => result),
      ])
    },
  }
}

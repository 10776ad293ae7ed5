/** createEngine: the supervisor of everything that runs in Python. */
import { ServiceError } from '@mlx-training/contract'
import type { BaseLogger } from 'pino'
import type { Config } from '../config.ts'
import { estimate } from './estimate.ts'
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
}

/** It holds 300 MB of libraries and a tokenizer, and takes three seconds to start. */
const INSPECTION_IDLE_MS = 120_000

/** Starts the probe at once. Nothing here throws for want of a Python: `health` tells. */
export function createEngine(
  config: Pick<Config, 'python' | 'engineSource' | 'home'> & Partial<Pick<Config, 'generation'>>,
  log: Pick<BaseLogger, 'info' | 'warn' | 'debug'>,
  { deadlines, idle = (config.generation?.idleSeconds ?? 600) * 1000 }: EngineOptions = {},
): Engine {
  let health = STARTING
  const probing = probe(config, deadlines)
  let closing = false
  const ready = probing.result.then((found) => {
    health = found
    if (closing) return found
    if (found.state === 'ready') log.info({ engine: found }, `engine ready: ${found.device}, ${found.backend}`)
    else log.warn({ engine: found }, `engine unavailable: ${found.reason}`)
    return found
  })
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
    ready: () => ready,
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
    async close() {
      closing = true
      probing.cancel()
      const running = [...tasks]
      for (const task of running) task.cancel()
      await Promise.allSettled([generation.close(), inspection.close(), ready, ...running.map(({ result }) => result)])
    },
  }
}

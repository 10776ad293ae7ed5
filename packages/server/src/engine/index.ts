/** createEngine: the supervisor of everything that runs in Python. */
import { ServiceError } from '@mlx-training/contract'
import type { BaseLogger } from 'pino'
import type { Config } from '../config.ts'
import { createGeneration, IDLE_MILLISECONDS } from './generation.ts'
import type { Engine } from './port.ts'
import type { Deadlines } from './process.ts'
import { importGguf, probe, STARTING, type Task } from './tasks.ts'
import { startTraining } from './training.ts'

export interface EngineOptions {
  deadlines?: Partial<Deadlines>
  /** Milliseconds without a request after which the generation process ends. */
  idle?: number
}

/** Starts the probe at once. Nothing here throws for want of a Python: `health` tells. */
export function createEngine(
  config: Pick<Config, 'python' | 'engineSource' | 'home'>,
  log: Pick<BaseLogger, 'info' | 'warn'>,
  { deadlines, idle = IDLE_MILLISECONDS }: EngineOptions = {},
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
  const imports = new Set<Task<string>>()
  const generation = createGeneration(config, {
    deadlines,
    idle,
    onCrash: (reason) => log.warn({ reason }, 'generation process ended'),
  })

  function mustBeAvailable(): void {
    if (health.state === 'unavailable')
      throw new ServiceError('unavailable', health.reason ?? 'The engine is unavailable', { retryAfter: 60 })
  }

  return {
    health: () => health,
    ready: () => ready,
    train(command, onFrame) {
      mustBeAvailable()
      return startTraining(config, command, onFrame, deadlines)
    },
    async generate(command, options) {
      mustBeAvailable()
      return generation.generate(command, options)
    },
    async importGguf(ggufPath, outputPath, onStage) {
      mustBeAvailable()
      const task = importGguf(config, ggufPath, outputPath, onStage, deadlines)
      imports.add(task)
      return task.result.finally(() => imports.delete(task))
    },
    async close() {
      closing = true
      probing.cancel()
      const tasks = [...imports]
      for (const task of tasks) task.cancel()
      await Promise.allSettled([generation.close(), ready, ...tasks.map(({ result }) => result)])
    },
  }
}

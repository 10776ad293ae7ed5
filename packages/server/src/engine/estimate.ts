import { join } from 'node:path'
import { type FrameOf, ServiceError, type TrainCommand } from '@mlx-training/contract'
import type { EngineConfig } from './environment.ts'
import { toServiceError } from './errors.ts'
import { explain, ranOutOfMemory } from './exit.ts'
import type { Estimate } from './port.ts'
import { type Deadlines, EngineProcess } from './process.ts'
import type { Task } from './tasks.ts'

/**
 * Runs `mlx_engine.estimate`. It tells what it knows before it measures, so that memory running out is an answer as well.
 * Rejects with ServiceErrors.
 */
export function estimate(config: EngineConfig, command: TrainCommand, deadlines?: Partial<Deadlines>): Task<Estimate> {
  let estimated: FrameOf<'estimated'> | null = null
  let error: FrameOf<'error'> | null = null
  const warnings: string[] = []
  const process = new EngineProcess(config, {
    module: 'estimate',
    logFile: join(config.home, 'runs', 'estimate', 'engine.log'),
    deadlines,
    onFrame(frame) {
      if (frame.type === 'estimated') estimated = frame
      else if (frame.type === 'warning') warnings.push(frame.message)
      else if (frame.type === 'error') error = frame
    },
  })
  process.send(command)
  const result = process.exited.then((end): Estimate => {
    if (estimated && end.code === 0) return { estimated, warnings, ranOut: null }
    const ranOut = error?.kind === 'out_of_memory' ? error.message : ranOutOfMemory(end) ? explain(end) : null
    if (estimated && ranOut !== null) return { estimated, warnings, ranOut }
    if (error) throw toServiceError(error)
    throw new ServiceError('unavailable', `Nothing was estimated: ${explain(end)}`, { cause: end.log.join('\n') })
  })
  return { result, cancel: () => process.kill() }
}

import { join } from 'node:path'
import { type EvaluateCommand, type FrameOf, ServiceError } from '@mlx-training/contract'
import type { EngineConfig } from './environment.ts'
import { toServiceError } from './errors.ts'
import { explain, ranOutOfMemory } from './exit.ts'
import type { HeldOutLosses } from './port.ts'
import { type Deadlines, EngineProcess } from './process.ts'
import type { Task } from './tasks.ts'

/** Each halves what is computed at a time. */
const MEMORY_LEVELS = 4

interface Options {
  signal: AbortSignal
  onStage?: ((stage: FrameOf<'stage'>) => void) | undefined
  deadlines?: Partial<Deadlines> | undefined
  /** Has a way to end what runs when the server closes. */
  run<T>(task: Task<T>): Promise<T>
}

/**
 * Runs `mlx_engine.evaluate`, a process for each model, so that a model that is too much for the machine takes no other
 * along. Where memory runs out once it evaluates, which ends the process on a CPU, another one computes smaller pieces; one
 * that ends in another way without a word is begun again once.
 * Rejects with ServiceErrors, or the signal's reason.
 */
export async function evaluate(
  config: EngineConfig,
  command: Omit<EvaluateCommand, 'type' | 'memory_level'>,
  { signal, onStage, deadlines, run }: Options,
): Promise<HeldOutLosses> {
  let level = 0
  let crash: string | null = null
  for (;;) {
    signal.throwIfAborted()
    const task = start(config, { type: 'evaluate', ...command, memory_level: level }, onStage, deadlines)
    signal.addEventListener('abort', task.cancel)
    try {
      const found = await run(task)
      return crash === null ? found : { ...found, warnings: [`${crash}: it was tried again`, ...found.warnings] }
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof RanOut && level + 1 < MEMORY_LEVELS) level++
      else if (error instanceof Crashed && crash === null) crash = error.message
      else throw error
    } finally {
      signal.removeEventListener('abort', task.cancel)
    }
  }
}

class RanOut extends ServiceError {}
/** By itself or from outside: once more may do. */
class Crashed extends ServiceError {}

function start(
  config: EngineConfig,
  command: EvaluateCommand,
  onStage: Options['onStage'],
  deadlines: Options['deadlines'],
): Task<HeldOutLosses> {
  const rows: HeldOutLosses['rows'] = { samples: [], trained: [], correct: [], losses: [] }
  const warnings: string[] = []
  let evaluated: FrameOf<'evaluated'> | null = null
  let error: FrameOf<'error'> | null = null
  let evaluating = false
  const process = new EngineProcess(config, {
    module: 'evaluate',
    logFile: join(config.home, 'runs', 'evaluation', 'engine.log'),
    deadlines,
    onFrame(frame) {
      if (frame.type === 'scored') for (const name of COLUMNS) append(rows[name], frame[name])
      else if (frame.type === 'evaluated') evaluated = frame
      else if (frame.type === 'warning') warnings.push(frame.message)
      else if (frame.type === 'error') error = frame
      else if (frame.type === 'stage') {
        evaluating = frame.stage === 'evaluating'
        onStage?.(frame)
      }
    },
  })
  process.send(command)
  const result = process.exited.then((end): HeldOutLosses => {
    // Complete is complete: native code may still crash while the process is taken down.
    if (evaluated && !error) return { rows, evaluated, warnings }
    if (error) throw toServiceError(error)
    const Kind = end.fault ? ServiceError : evaluating && ranOutOfMemory(end) ? RanOut : Crashed
    throw new Kind('unavailable', `Not evaluated: ${explain(end)}`, { cause: end.log.join('\n') })
  })
  return { result, cancel: () => process.kill() }
}

const COLUMNS = ['samples', 'trained', 'correct', 'losses'] as const

function append(to: (number | null)[], more: readonly (number | null)[]): void {
  for (const value of more) to.push(value)
}

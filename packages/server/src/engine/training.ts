import { join } from 'node:path'
import type { Frame, FrameOf, TrainCommand } from '@mlx-training/contract'
import type { BaseLogger } from 'pino'
import type { Config } from '../config.ts'
import type { EngineConfig } from './environment.ts'
import { explain, ranOutOfMemory } from './exit.ts'
import type { TrainingExit, TrainingProcess } from './port.ts'
import { DEADLINES, type Deadlines, EngineProcess } from './process.ts'
import type { RightOfWay } from './right-of-way.ts'

/** Starts `mlx_engine.train`; its log goes to `$HOME/runs/JOB_ID/engine.log`. */
export function startTraining(
  config: EngineConfig & Partial<Pick<Config, 'generation'>>,
  command: TrainCommand,
  onFrame: (frame: Frame) => Promise<void> | void,
  log: Pick<BaseLogger, 'debug'>,
  deadlines?: Partial<Deadlines>,
  rightOfWay?: RightOfWay,
): TrainingProcess {
  let finished: FrameOf<'finished'> | null = null
  let error: FrameOf<'error'> | null = null
  const { hang } = { ...DEADLINES, ...deadlines }
  const engine = new EngineProcess(config, {
    module: 'train',
    logFile: join(config.home, 'runs', command.job_id, 'engine.log'),
    onLine: (line) => log.debug({ job_id: command.job_id, attempt: command.attempt, engine: line }, 'engine'),
    deadlines,
    environment: {
      ...(hang > 0 && { MLX_TRAINING_HANG_SECONDS: String(hang / 1000) }),
      ...(config.generation && yielding(config.generation)),
    },
    async onFrame(frame) {
      if (frame.type === 'finished') finished = frame
      else if (frame.type === 'error') error = frame
      await onFrame(frame)
    },
  })
  engine.send(command)
  rightOfWay?.join(engine)

  const ask = (type: 'stop' | 'suspend') => {
    engine.send({ type })
    engine.expectEnd()
  }
  return {
    pid: engine.pid,
    stop: () => ask('stop'),
    suspend: () => ask('suspend'),
    kill: () => engine.kill(),
    exited: engine.exited.then((end): TrainingExit => {
      // Of several ranks the one that is left tells of the other's end, and not why.
      const outOfMemory =
        error?.kind === 'out_of_memory' ||
        (error?.kind === 'internal' && end.oomKilled === true) ||
        (!error && !finished && ranOutOfMemory(end))
      const common = { finished, error, log: end.log, outOfMemory }
      // Complete is complete: native code may still crash while the process is taken down.
      if (finished && end.fault?.kind !== 'internal')
        return { ...common, kind: 'finished', reason: 'The engine finished' }
      if (error && !end.fault) return { ...common, kind: 'error', reason: error.message }
      return { ...common, kind: kindOf(end.fault?.kind), reason: explain(end) }
    }),
  }
}

/** As mlx_engine/training/ceding.py reads them. */
const yielding = ({ yieldPercent, yieldMs }: Config['generation']) => ({
  MLX_TRAINING_GENERATION_YIELD_PERCENT: String(yieldPercent),
  MLX_TRAINING_GENERATION_YIELD_MS: String(yieldMs),
})

function kindOf(fault: string | undefined): TrainingExit['kind'] {
  if (fault === 'hung' || fault === 'no_hello') return 'hung'
  return fault === 'deadline' || fault === 'killed' ? 'killed' : 'crashed'
}

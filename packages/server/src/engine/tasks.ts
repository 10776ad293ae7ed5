/** Engine processes that do one thing and end: the probe at start, the import of a GGUF file. */
import { join } from 'node:path'
import { type EngineHealth, type FrameOf, ServiceError } from '@mlx-training/contract'
import type { EngineConfig } from './environment.ts'
import { toServiceError } from './errors.ts'
import { explain } from './exit.ts'
import { type Deadlines, EngineProcess } from './process.ts'

export interface Task<T> {
  result: Promise<T>
  cancel(): void
}

export const STARTING: EngineHealth = {
  state: 'starting',
  reason: null,
  device: null,
  backend: null,
  dtype: null,
  gflops: null,
  kernels: null,
  mlx_version: null,
  mlx_lm_version: null,
}

const unavailable = (reason: string): EngineHealth => ({ ...STARTING, state: 'unavailable', reason })

/** Runs `mlx_engine.probe`. Never rejects: what is wrong is the result. */
export function probe(config: EngineConfig, deadlines?: Partial<Deadlines>): Task<EngineHealth> {
  let hello: FrameOf<'hello'> | null = null
  let error: FrameOf<'error'> | null = null
  try {
    const process = new EngineProcess(config, {
      module: 'probe',
      logFile: null,
      deadlines,
      onFrame(frame) {
        if (frame.type === 'hello') hello = frame
        else if (frame.type === 'error') error = frame
      },
    })
    const result = process.exited.then((end): EngineHealth => {
      if (hello && !error && end.code === 0) {
        const { type: _, protocol: __, pid: ___, ...found } = hello
        return { state: 'ready', reason: null, ...found }
      }
      return unavailable(`${error?.message ?? explain(end)}. Run "npm run setup" to repair the engine`)
    })
    return { result, cancel: () => process.kill() }
  } catch (failure) {
    return { result: Promise.resolve(unavailable((failure as Error).message)), cancel: () => {} }
  }
}

/** Runs `mlx_engine.gguf`; the result is the folder's path. Rejects with ServiceErrors. */
export function importGguf(
  config: EngineConfig,
  ggufPath: string,
  outputPath: string,
  onStage?: (stage: FrameOf<'stage'>) => void,
  deadlines?: Partial<Deadlines>,
): Task<string> {
  let path: string | null = null
  let error: FrameOf<'error'> | null = null
  const process = new EngineProcess(config, {
    module: 'gguf',
    logFile: join(config.home, 'runs', 'import', 'engine.log'),
    deadlines,
    onFrame(frame) {
      if (frame.type === 'stage') onStage?.(frame)
      else if (frame.type === 'imported') path = frame.path
      else if (frame.type === 'error') error = frame
    },
  })
  process.send({ type: 'import', gguf_path: ggufPath, output_path: outputPath })
  const result = process.exited.then((end) => {
    if (path !== null) return path
    if (error) throw toServiceError(error)
    throw new ServiceError('unavailable', `${ggufPath} was not imported: ${explain(end)}`, {
      cause: end.log.join('\n'),
    })
  })
  return { result, cancel: () => process.kill() }
}

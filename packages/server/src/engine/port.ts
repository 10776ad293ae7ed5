import type {
  EngineHealth,
  EvaluateCommand,
  Frame,
  FrameOf,
  GenerateCommand,
  InspectCommand,
  PreviewCommand,
  PreviewRow,
  SupervisionReport,
  TrainCommand,
} from '@mlx-training/contract'

/** Why a training process is gone, in words that a user can act on. */
export interface TrainingExit {
  kind: 'finished' | 'error' | 'crashed' | 'hung' | 'killed'
  finished: FrameOf<'finished'> | null
  error: FrameOf<'error'> | null
  /** e.g. "The engine was killed by SIGKILL: most likely the system ran out of memory" */
  reason: string
  /** It said so itself, or ended as a process does for want of memory. */
  outOfMemory: boolean
  /** The last lines of stderr. */
  log: string[]
}

export interface TrainingProcess {
  readonly pid: number
  /** Asks it to end within 5 s with a checkpoint; killed after the deadline. */
  stop(): void
  suspend(): void
  /** Kills the process group at once. */
  kill(): void
  readonly exited: Promise<TrainingExit>
}

/** What a training would take. */
export interface Estimate {
  /** The last word of the process: measured, or, when memory ran out, what it knew before. */
  estimated: FrameOf<'estimated'>
  warnings: string[]
  /** In words that a user can act on, when memory ran out; null otherwise. */
  ranOut: string | null
}

/** Of one model over a data set: its rows column by column, as the scored frame has them, and all of them together. */
export interface HeldOutLosses {
  rows: Omit<FrameOf<'scored'>, 'type'>
  evaluated: FrameOf<'evaluated'>
  warnings: string[]
}

type Asked<C> = Omit<C, 'type' | 'id'>

/** What training would make of a data set, told by a process that reads no weights: one command at a time, in the order
 *  they come; ServiceError('rate_limited') when many wait. An aborted signal cancels. Engine errors become ServiceErrors. */
export interface Inspection {
  inspect(command: Asked<InspectCommand>, options: { signal?: AbortSignal }): Promise<SupervisionReport>
  preview(command: Asked<PreviewCommand>, options: { signal?: AbortSignal }): Promise<PreviewRow[]>
}

export interface Engine extends Inspection {
  /** As probed at start, and again from time to time while it does not work; never throws. */
  health(): EngineHealth
  /** Once the first probe has ended: as `health`. */
  ready(): Promise<EngineHealth>
  /** Frames are handed over in order, one at a time: the next waits until onFrame's promise resolves.
   *  ServiceError('unavailable') without a working engine. */
  train(command: TrainCommand, onFrame: (frame: Frame) => Promise<void> | void): TrainingProcess
  /** In the long-lived generation process, started at first use and again after a crash.
   *  An aborted signal cancels. Engine errors become ServiceErrors. */
  generate(
    command: Omit<GenerateCommand, 'type' | 'id'>,
    options: { signal?: AbortSignal; onToken?: (text: string, frame: FrameOf<'token'>) => void },
  ): Promise<FrameOf<'done'>>
  /** In a process of its own, which an aborted signal ends. Engine errors become ServiceErrors. */
  estimate(command: TrainCommand, options: { signal?: AbortSignal }): Promise<Estimate>
  /** The same; when a CPU's memory runs out it is tried again in smaller pieces. */
  evaluate(
    command: Omit<EvaluateCommand, 'type' | 'memory_level'>,
    options: { signal: AbortSignal; onStage?: (stage: FrameOf<'stage'>) => void },
  ): Promise<HeldOutLosses>
  importGguf(ggufPath: string, outputPath: string, onStage?: (stage: FrameOf<'stage'>) => void): Promise<string>
  /** Ends the generation process and waits for it. Training processes are the runner's to end. */
  close(): Promise<void>
}

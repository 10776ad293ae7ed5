import type { Checkpoint, DatasetFormat, FrameOf, JobState, StartRequest } from '@mlx-training/contract'

/** What the user wants of an active job; the runner brings the engine there. */
export type Intent = 'run' | 'pause' | 'stop'

/** What start resolved once, so that a restart needs nothing of the user's files. Absolute paths. */
export interface JobPlan {
  method: 'lora' | 'qlora' | 'full'
  model: ModelRef
  dataset: {
    path: string
    sha256: string
    format: DatasetFormat
    samples: number
    warnings: string[]
  }
  validation: { path: string; sha256: string; samples: number } | null
  outputDir: string
}

/** A model that can be had: a folder that is here, a GGUF file to import, or a hub repository to download. */
export type ModelRef =
  | { kind: 'folder'; name: string; path: string }
  | { kind: 'gguf'; name: string; path: string }
  | { kind: 'hub'; name: string; repo: string; revision: string }

/** Projection of the job's frames, kept beside its events and written in the same transaction. */
export interface JobProgress {
  stage: string | null
  prepared: Omit<FrameOf<'prepared'>, 'type'> | null
  step: Omit<FrameOf<'step'>, 'type'> | null
  /** Loss of the last step that had one. */
  loss: number | null
  evaluation: Omit<FrameOf<'eval'>, 'type'> | null
  /** The lowest validation loss so far, and where. */
  best: { step: number; loss: number } | null
  checkpoints: (Omit<Checkpoint, 'model'> & { path: string })[]
  /** How often memory ran out: the next attempt computes in smaller pieces. */
  memoryLevel: number
  verified: Omit<FrameOf<'verified'>, 'type'> | null
  warnings: string[]
}

export interface Job {
  id: string
  name: string
  state: JobState
  intent: Intent
  /** Counts claims; a fence: only the writer that knows the present attempt may write. */
  attempt: number
  /** Claims in a row without a new checkpoint, the present one among them. */
  fruitlessAttempts: number
  priority: number
  request: StartRequest
  plan: JobPlan
  progress: JobProgress
  reason: string | null
  createdAt: string
  startedAt: string | null
  completedAt: string | null
  lastEventId: number
}

export type NewJob = Pick<Job, 'name' | 'request' | 'plan'>

/** What HTTP may ask of jobs. It only writes queued rows and intents; the runner does the rest. */
export interface JobService {
  /** Queues a job. ServiceError('conflict') when the name is taken (an ended one is replaced if `request.overwrite`)
   *  or another active job writes to the same output folder. */
  submit(job: NewJob): Promise<Job>
  get(name: string): Promise<Job | null>
  list(): Promise<Job[]>
  /** ServiceError('not_found' | 'conflict'): the detail says in which state it is and what is possible. */
  stop(name: string): Promise<Job>
  pause(name: string): Promise<Job>
  resume(name: string): Promise<Job>
  /** 0: next to run; null: not queued. */
  queuePosition(job: Job): Promise<number | null>
  counts(): Promise<{ active: number; queued: number }>
}

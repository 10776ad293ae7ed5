import type { Checkpoint, DatasetFormat, FrameOf, Interruption, JobState, StartRequest } from '@mlx-training/contract'
import type { KeptAnswer } from '../store/port.ts'
import type { LossCurve } from './curve.ts'
import type { Swept } from './sweeper.ts'

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
    /** Of the uploaded data set that it was made of; none for a path. */
    id?: string
  }
  validation: { path: string; sha256: string; samples: number; id?: string } | null
  outputDir: string
  /** A copy of the weights that it begins with instead of new ones. This and the next lack in older jobs. */
  initial?: { path: string; name: string } | null
  /** Of the whole run, as estimated when it was accepted. */
  estimatedSeconds?: number | null
  /** What its client wants to know it by, under /v1. */
  metadata?: Record<string, string> | null
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
  /** Of a paused job that goes on by itself. Lacks in older jobs. */
  waitsFor?: 'room' | null
  /** Given way to answers, in all. Lacks in older jobs. */
  cededSeconds?: number
  /** How often the run has returned to an earlier step. Lacks in older jobs. */
  rollbacks?: number
  /** The attempt before that crashed. Lacks in older jobs. */
  interruption?: Interruption | null
  /** Lacks in older jobs. */
  curve?: LossCurve
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

/** Of a queued job. */
export interface Place {
  /** 0: next to run. */
  position: number
  /** When it gets its turn, by what those before it are estimated to take; null: not known. RFC 3339. */
  start: string | null
}

/** Who sent a request with which Idempotency-Key, and the request's hash. */
export type Once = Omit<KeptAnswer, 'answer'>

/** What HTTP may ask of jobs. It only writes queued rows and intents; the runner does the rest. */
export interface JobService {
  /** Queues a job and answers with it, or with what `answer` makes of it and of its place in the queue; with `once` that
   *  is kept in the same transaction. ServiceError('conflict') when the name is taken (an ended one is replaced if
   *  `request.overwrite`) or another active job writes to the same output folder. */
  submit<T extends object = Job>(
    job: NewJob,
    answer?: (job: Job, position: number) => T,
    once?: Once | null,
  ): Promise<T>
  get(name: string): Promise<Job | null>
  byId(id: string): Promise<Job | null>
  /** Newest first. */
  list(): Promise<Job[]>
  /** ServiceError('not_found' | 'conflict'): the detail says in which state it is and what is possible. */
  stop(name: string): Promise<Job>
  pause(name: string): Promise<Job>
  resume(name: string): Promise<Job>
  /** Moves a queued job within the queue. ServiceErrors as those of stop. */
  prioritize(name: string, priority: number): Promise<Job>
  /** Removes an ended job and what it has made; tells what of that. ServiceErrors as those of stop. */
  remove(name: string): Promise<{ job: Job; swept: Swept }>
  /** Of all queued jobs, by id. */
  places(): Promise<Map<string, Place>>
  counts(): Promise<{ active: number; queued: number }>
}

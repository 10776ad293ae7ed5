import type { EvaluateRequest } from '@mlx-training/contract'
import type { EvaluationRecord } from '../store/port.ts'

/** As it is told: with its place in the queue, 0 being the next; null once it has begun. */
export interface Told {
  record: EvaluationRecord
  position: number | null
}

/** One evaluation runs at a time, beside whatever is trained; the others wait. */
export interface Evaluations {
  /** ServiceErrors: those of models and data set at the field that names them; unavailable without an engine;
   *  rate_limited when many wait. */
  submit(request: EvaluateRequest): Promise<Told>
  /** ServiceError('not_found'). */
  get(id: string): Promise<Told>
  list(limit: number, after?: string): Promise<Told[]>
  /** And waits for that; one that has ended stays as it is. ServiceError('not_found'). */
  cancel(id: string): Promise<Told>
  /** ServiceErrors: not_found; conflict until it has ended. */
  remove(id: string): Promise<Told>
  /** What an earlier server left waiting waits again; what it left at work is told as interrupted. */
  start(): Promise<void>
  /** Interrupts what runs and waits for that; those that wait stay queued. */
  close(): Promise<void>
}

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
  /** Cancels one that has not ended and waits for that; removes one that has. ServiceError('not_found'). */
  end(id: string): Promise<{ told: Told; deleted: boolean }>
  /** What an earlier server left at work is told as interrupted. */
  start(): Promise<void>
  /** Interrupts what runs and waits. */
  close(): Promise<void>
}

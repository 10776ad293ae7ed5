import type { EventType, JobEvent } from '@mlx-training/contract'

export interface EventLog {
  /** Events with id > after, oldest first; of those types alone where they are named. */
  after(jobId: string, after: number, limit: number, types?: readonly EventType[]): Promise<JobEvent[]>
  /** Events with id < before, newest first. */
  before(jobId: string, before: number, limit: number): Promise<JobEvent[]>
  /** Replays from the store, then follows live, in batches, at the reader's pace (nothing is buffered for it). Readers
   *  at the same place get the same array.
   *  Ends after the job's `end` event has been yielded, or when the signal aborts. No gaps, no repeats. */
  follow(jobId: string, after: number, signal: AbortSignal): AsyncIterable<readonly JobEvent[]>
}

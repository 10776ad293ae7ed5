import type { JobEvent, JobState, Scope } from '@mlx-training/contract'
import type { Job, NewJob } from '../jobs/port.ts'

export type NewEvent = Pick<JobEvent, 'type' | 'data'>

/** What one transaction changes of a job, and the events that tell it. */
export interface JobUpdate {
  change: Partial<Omit<Job, 'id' | 'name' | 'createdAt' | 'lastEventId'>>
  events: NewEvent[]
}

export interface ApiKey {
  id: string
  name: string
  /** SHA-256 of the whole key, hex. */
  hash: string
  scopes: Scope[]
  createdAt: string
  expiresAt: string | null
  revokedAt: string | null
}

/** The store's port. One conformance suite (test/store/conformance.ts) runs on every driver. */
export interface Store {
  /** Inserts a queued job with its first event; `replace` removes that ended job and its events in the same transaction.
   *  ServiceError('conflict') when the name exists. */
  insertJob(job: NewJob, events: NewEvent[], replace?: string): Promise<Job>
  job(name: string): Promise<Job | null>
  jobById(id: string): Promise<Job | null>
  /** Newest first. */
  jobs(states?: readonly JobState[]): Promise<Job[]>
  /** Reads the job, lets `decide` say what changes, writes that and its events: one transaction. `attempt` is the fence:
   *  when the job has moved on to another attempt nothing is written and null is returned. null from decide: no change. */
  update(id: string, attempt: number | null, decide: (job: Job) => JobUpdate | null): Promise<Job | null>
  /** Takes the first queued job (priority, then age) but those `except`, and writes what `decide` says of it: one
   *  transaction. null: none is queued. */
  claim(decide: (job: Job) => JobUpdate, except?: readonly string[]): Promise<Job | null>
  eventsAfter(jobId: string, after: number, limit: number): Promise<JobEvent[]>
  key(id: string): Promise<ApiKey | null>
  keys(): Promise<ApiKey[]>
  putKey(key: ApiKey): Promise<void>
  /** Throws when the database can't be read. */
  check(): Promise<void>
  close(): Promise<void>
}

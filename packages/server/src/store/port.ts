import type { Dataset, Evaluation, EventType, JobEvent, JobState, Scope } from '@mlx-training/contract'
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
  /** To the minute. */
  lastUsedAt: string | null
  expiresAt: string | null
  revokedAt: string | null
}

/** A message to one receiver. `id` is the same at every receiver and every attempt: the webhook-id. */
export interface NewDelivery {
  id: string
  url: string
  body: string
}

export interface Delivery extends NewDelivery {
  /** How often it was tried in vain. */
  attempts: number
  dueAt: string
}

/** What is still to be delivered. Rows come in with their job's end (StoreOptions.onEnd). */
export interface Outbox {
  /** Due at that time, the longest overdue first. */
  due(url: string, at: string, limit: number): Promise<Delivery[]>
  /** When the first becomes due after that time. */
  nextDue(url: string, after: string): Promise<string | null>
  postpone(delivery: Delivery, attempts: number, dueAt: string): Promise<void>
  remove(delivery: Delivery): Promise<void>
  /** Removes what is for other receivers; tells how many messages. */
  keepOnly(urls: readonly string[]): Promise<number>
  size(): Promise<number>
}

/** An uploaded data set. */
export interface DatasetRecord extends Omit<Dataset, 'created_at' | 'experiments'> {
  /** Of its bytes and of how they are to be read: the same again is the same data set. */
  identity: string
  createdAt: string
}

export interface DatasetUse {
  /** Of the experiment. */
  name: string
  ended: boolean
}

export interface DatasetStore {
  /** Or finds the one with the same identity, which is then left as it is. */
  insert(dataset: DatasetRecord): Promise<{ dataset: DatasetRecord; inserted: boolean }>
  get(id: string): Promise<DatasetRecord | null>
  byIdentity(identity: string): Promise<DatasetRecord | null>
  /** Newest first, those that came before `after`. ServiceError('not_found') when that is gone. */
  list(limit: number, after?: string): Promise<DatasetRecord[]>
  ids(): Promise<string[]>
  /** Experiments whose plans name them for training or validation, newest first. */
  uses(ids: readonly string[]): Promise<Map<string, DatasetUse[]>>
  /** null: there is none. ServiceError('conflict') while a job that uses it has not ended. */
  remove(id: string): Promise<DatasetRecord | null>
}

/** An evaluation as it is told, but for its place in the queue. */
export type EvaluationRecord = Omit<Evaluation, 'queue_position'>

export interface EvaluationStore {
  insert(evaluation: EvaluationRecord): Promise<void>
  get(id: string): Promise<EvaluationRecord | null>
  /** Newest first, those that came before `after`. ServiceError('not_found') when that is gone. */
  list(limit: number, after?: string): Promise<EvaluationRecord[]>
  /** Queued and running ones, the oldest first. */
  unended(): Promise<EvaluationRecord[]>
  /** Writes all of it. One that was removed stays so. */
  put(evaluation: EvaluationRecord): Promise<void>
  remove(id: string): Promise<EvaluationRecord | null>
}

export interface StoreOptions {
  /** What has to be sent because this job has ended; kept in the very transaction that ends it. */
  onEnd?: (job: Job) => NewDelivery[]
  /** Of every statement, begin and commit included. */
  onQuery?: (operation: string, seconds: number) => void
}

/** What a request was answered, for the same request again: `principal` sent it with that Idempotency-Key. */
export interface KeptAnswer {
  principal: string
  key: string
  /** Of the request. */
  fingerprint: string
  answer: object
}

/** An experiment that is gone and whose files are still to be removed. */
export interface Removal {
  jobId: string
  name: string
  outputDir: string
}

/** The store's port. One conformance suite (test/store/conformance.ts) runs on every driver. */
export interface Store {
  /** Inserts a queued job with its first event, in one transaction with the rest: `replace` removes that ended job as
   *  removeJob does, and what `keep` makes of the new one and of how many come before it is kept as an answer.
   *  ServiceError('conflict') when the name exists. */
  insertJob(
    job: NewJob,
    events: NewEvent[],
    options?: { replace?: string; keep?: (job: Job, ahead: number) => KeptAnswer | null },
  ): Promise<Job>
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
  /** Removes a job that `check` does not throw at, and its events; from then on its files are told by `removals`.
   *  null: there is none of that name. */
  removeJob(name: string, check: (job: Job) => void): Promise<Job | null>
  /** Whose files are still to be removed, the oldest first. */
  removals(): Promise<Removal[]>
  /** Its files are gone. */
  removed(jobId: string): Promise<void>
  /** Kept within the last 24 h. */
  answer(principal: string, key: string): Promise<Pick<KeptAnswer, 'fingerprint' | 'answer'> | null>
  /** The oldest first; of those types alone where they are named. */
  eventsAfter(jobId: string, after: number, limit: number, types?: readonly EventType[]): Promise<JobEvent[]>
  /** The newest first. */
  eventsBefore(jobId: string, before: number, limit: number): Promise<JobEvent[]>
  key(id: string): Promise<ApiKey | null>
  /** Those that are not revoked, the oldest first. */
  keys(): Promise<ApiKey[]>
  insertKey(key: ApiKey): Promise<void>
  /** The key as it is from then on; null when there is none, or it was revoked before. */
  revokeKey(id: string, at: string): Promise<ApiKey | null>
  keyUsed(id: string, at: string): Promise<void>
  /** How many jobs are in each state that occurs. */
  countStates(): Promise<Partial<Record<JobState, number>>>
  /** When the oldest of the queued jobs was accepted. */
  oldestQueued(): Promise<string | null>
  readonly outbox: Outbox
  readonly datasets: DatasetStore
  readonly evaluations: EvaluationStore
  /** Throws when the database can't be read. */
  check(): Promise<void>
  close(): Promise<void>
}

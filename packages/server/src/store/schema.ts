/** Tables as the drivers hold them, and the way between a row and a Job. JSON is kept as text in every dialect. */
import type { EvaluationState, EventType, JobEvent, JobState } from '@mlx-training/contract'
import type { Insertable, Selectable } from 'kysely'
import type { Intent, Job, JobProgress } from '../jobs/port.ts'
import type { ApiKey, JobUpdate } from './port.ts'

export interface Tables {
  jobs: {
    id: string
    name: string
    /** Order of acceptance: the queue's order among equal priorities. */
    seq: number
    state: JobState
    intent: Intent
    attempt: number
    fruitless_attempts: number
    priority: number
    request: string
    plan: string
    progress: string
    /** Of the plan; one unended job a folder (unique index). */
    output_dir: string
    reason: string | null
    created_at: string
    started_at: string | null
    completed_at: string | null
    last_event_id: number
  }
  events: {
    job_id: string
    id: number
    type: EventType
    at: string
    data: string
  }
  outbox: {
    id: string
    url: string
    body: string
    attempts: number
    due_at: string
  }
  datasets: {
    id: string
    /** Order of arrival. */
    seq: number
    /** Same bytes, read the same way: one data set (unique). */
    identity: string
    /** The rest of its DatasetRecord. */
    record: string
    created_at: string
  }
  evaluations: {
    id: string
    /** Order of acceptance. */
    seq: number
    state: EvaluationState
    /** The rest of its EvaluationRecord. */
    record: string
  }
  idempotency_keys: {
    principal: string
    key: string
    fingerprint: string
    answer: string
    created_at: string
  }
  removals: {
    job_id: string
    name: string
    output_dir: string
    removed_at: string
  }
  api_keys: {
    id: string
    name: string
    hash: string
    scopes: string
    created_at: string
    last_used_at: string | null
    expires_at: string | null
    revoked_at: string | null
  }
}

export const NO_PROGRESS: JobProgress = {
  stage: null,
  prepared: null,
  step: null,
  loss: null,
  evaluation: null,
  best: null,
  checkpoints: [],
  memoryLevel: 0,
  verified: null,
  rollbacks: 0,
  interruption: null,
  warnings: [],
}

export function toJob(row: Selectable<Tables['jobs']>): Job {
  return {
    id: row.id,
    name: row.name,
    state: row.state,
    intent: row.intent,
    attempt: row.attempt,
    fruitlessAttempts: row.fruitless_attempts,
    priority: row.priority,
    request: JSON.parse(row.request),
    plan: JSON.parse(row.plan),
    progress: JSON.parse(row.progress),
    reason: row.reason,
    createdAt: row.created_at,
    startedAt: row.started_at,
    completedAt: row.completed_at,
    lastEventId: row.last_event_id,
  }
}

export function toColumns(change: JobUpdate['change']): Partial<Insertable<Tables['jobs']>> {
  const columns: Partial<Insertable<Tables['jobs']>> = {
    state: change.state,
    intent: change.intent,
    attempt: change.attempt,
    fruitless_attempts: change.fruitlessAttempts,
    priority: change.priority,
    request: change.request && JSON.stringify(change.request),
    plan: change.plan && JSON.stringify(change.plan),
    output_dir: change.plan?.outputDir,
    progress: change.progress && JSON.stringify(change.progress),
    reason: change.reason,
    started_at: change.startedAt,
    completed_at: change.completedAt,
  }
  return Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== undefined))
}

export function toEvent(row: Selectable<Tables['events']>): JobEvent {
  return { ...row, data: JSON.parse(row.data) }
}

export function toKey(row: Selectable<Tables['api_keys']>): ApiKey {
  return {
    id: row.id,
    name: row.name,
    hash: row.hash,
    scopes: JSON.parse(row.scopes),
    createdAt: row.created_at,
    lastUsedAt: row.last_used_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
  }
}

export function fromKey(key: ApiKey): Insertable<Tables['api_keys']> {
  return {
    id: key.id,
    name: key.name,
    hash: key.hash,
    scopes: JSON.stringify(key.scopes),
    created_at: key.createdAt,
    last_used_at: key.lastUsedAt,
    expires_at: key.expiresAt,
    revoked_at: key.revokedAt,
  }
}

import { type Static, Type } from 'typebox'
import { enumOf, Timestamp } from './common.ts'

export const EVENT_TYPES = [
  'state',
  'stage',
  'prepared',
  'step',
  'eval',
  'sample',
  'checkpoint',
  'rollback',
  'memory',
  'verified',
  'warning',
  'log',
  'end',
] as const
export type EventType = (typeof EVENT_TYPES)[number]

/** One line of a job's history. `id` counts 1, 2, 3 … per job without gaps and doubles as the SSE id. */
export const JobEvent = Type.Object(
  {
    id: Type.Integer({ minimum: 1 }),
    job_id: Type.String(),
    type: enumOf(EVENT_TYPES),
    at: Timestamp,
    data: Type.Record(Type.String(), Type.Unknown()),
  },
  { $id: 'JobEvent' },
)
export type JobEvent = Static<typeof JobEvent>

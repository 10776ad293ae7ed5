/** What dashboards draw of a run: its steps in columns instead of an event each. */
import { type Static, Type } from 'typebox'
import { Nullable } from './common.ts'
import { JobEvent } from './event.ts'
import { JobState } from './job.ts'

export const HistoryQuery = Type.Object(
  {
    after: Type.Integer({ default: 0, minimum: 0, description: 'Only what came after this event' }),
    limit: Type.Integer({ default: 10_000, minimum: 1, maximum: 50_000, description: 'Of events, steps among them' }),
  },
  { $id: 'HistoryQuery', additionalProperties: false },
)
export type HistoryQuery = Static<typeof HistoryQuery>

const numbers = (description: string) => Type.Array(Nullable(Type.Number()), { description })

/** One entry a step event in each column, in the order of the events. */
export const StepColumns = Type.Object({
  id: Type.Array(Type.Integer(), { description: 'Of the event' }),
  step: Type.Array(Type.Integer(), {
    description: 'A step that is not higher than the one before: the run went on from there, what was after it is void',
  }),
  epoch: Type.Array(Type.Integer()),
  at: Type.Array(Type.Integer(), { description: 'Milliseconds since 1970' }),
  loss: numbers('null: the step was skipped as non-finite'),
  smoothed_loss: numbers('Running mean over about 20 steps'),
  learning_rate: numbers('Of the schedule'),
  grad_norm: numbers('Before clipping'),
  tokens_per_second: numbers('Non-padding tokens'),
  memory_mb: numbers("Of the engine's device; resident memory on a CPU"),
})
export type StepColumns = Static<typeof StepColumns>

export const HistoryResponse = Type.Object(
  {
    experiment_name: Type.String(),
    job_id: Type.String({ description: 'Another one than before: the experiment was replaced, and this begins anew' }),
    status: JobState,
    last_event: Type.Integer({ description: '`after` of what follows, also of GET /train/{name}/events' }),
    more: Type.Boolean({ description: 'Whether there was more than `limit`' }),
    steps: StepColumns,
    events: Type.Array(Type.Object(JobEvent.properties), { description: 'All others, oldest first' }),
  },
  { $id: 'HistoryResponse' },
)
export type HistoryResponse = Static<typeof HistoryResponse>

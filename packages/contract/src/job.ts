import { type Static, Type } from 'typebox'
import { enumOf, Nullable, Timestamp } from './common.ts'

export const JOB_STATES = [
  'queued',
  'preparing',
  'running',
  'paused',
  'stopping',
  'stopped',
  'completed',
  'failed',
] as const
export type JobState = (typeof JOB_STATES)[number]
export const JobState = enumOf(JOB_STATES)

export const TRAINING_METHODS = ['full', 'lora', 'qlora'] as const

export const DATASET_FORMATS = ['alpaca', 'sharegpt', 'openai', 'prompt_completion', 'text'] as const
export type DatasetFormat = (typeof DATASET_FORMATS)[number]
export const DatasetFormat = enumOf(DATASET_FORMATS)

export const Checkpoint = Type.Object({
  step: Type.Integer(),
  model: Type.String({
    description: 'Name for /generate, e.g. fine-tuned/NAME@step-200',
  }),
  loss: Nullable(Type.Number()),
  validation_loss: Nullable(Type.Number()),
  best: Type.Boolean({ description: 'Of the lowest validation loss so far' }),
  created_at: Timestamp,
})
export type Checkpoint = Static<typeof Checkpoint>

/** Of an attempt that ended though nobody had asked it to, and after which the job goes on by itself. */
export const Interruption = Type.Object({
  attempt: Type.Integer({ description: 'The one that ended' }),
  at: Timestamp,
  reason: Type.String(),
})
export type Interruption = Static<typeof Interruption>

export const StatusResponse = Type.Object(
  {
    experiment_name: Type.String(),
    status: JobState,
    progress: Type.Object({
      current_epoch: Type.Integer({
        description: '1-based; 0 before the first step',
      }),
      total_epochs: Type.Integer(),
      current_step: Type.Integer(),
      total_steps: Type.Integer({
        description: '0 until the data set has been tokenised',
      }),
      percentage: Type.Number({ minimum: 0, maximum: 100 }),
    }),
    metrics: Type.Object({
      loss: Nullable(
        Type.Number({
          description: 'Of the last step, mean over its trained tokens; null before it',
        }),
      ),
      learning_rate: Type.Number(),
      tokens_per_second: Type.Number({
        description: 'Non-padding tokens processed',
      }),
      gpu_memory_used_mb: Type.Number({
        description: "Peak of the engine's device memory; resident memory on a CPU",
      }),
      trained_tokens_per_second: Type.Optional(Type.Number({ description: 'Tokens that carry loss' })),
      smoothed_loss: Nullable(Type.Number({ description: 'Running mean of the loss over about the last 20 steps' })),
      grad_norm: Type.Optional(Nullable(Type.Number())),
      padding_share: Nullable(Type.Number({ description: 'Of the positions that the last step computed, 0 to 1' })),
      validation_loss: Type.Optional(Nullable(Type.Number())),
      validation_perplexity: Nullable(Type.Number()),
      validation_token_accuracy: Nullable(
        Type.Number({ description: 'Share of the supervised tokens that are the most likely ones, 0 to 1' }),
      ),
      best_validation_loss: Nullable(Type.Number()),
      ceded_seconds: Type.Number({ description: 'That training has given way to answers' }),
    }),
    lora_details: Type.Object({
      enabled: Type.Boolean(),
      rank: Type.Integer({ description: '0 for full fine-tuning' }),
      alpha: Type.Number(),
      target_modules: Type.Array(Type.String()),
      trainable_params: Type.Integer({
        description: '0 until the model is loaded',
      }),
      total_params: Type.Integer({
        description: 'Parameters of the base; a packed 4-bit weight counts as its values',
      }),
      trainable_percentage: Type.Number(),
    }),
    dataset_details: Type.Object({
      format: DatasetFormat,
      total_samples: Type.Integer(),
      processed_samples: Type.Integer({
        description: 'Rows seen, counted again in every epoch',
      }),
      trained_samples: Nullable(Type.Integer({ description: 'Rows left after tokenising; null before it' })),
      validation_samples: Nullable(Type.Integer({ description: 'Rows held out; null before tokenising' })),
      dropped_samples: Nullable(Type.Integer()),
      truncated_samples: Nullable(Type.Integer()),
      tokens: Nullable(Type.Integer({ description: 'Of one epoch' })),
      trained_tokens: Nullable(Type.Integer({ description: 'Of one epoch: those that carry loss' })),
    }),
    job_id: Type.String(),
    model: Type.String(),
    tags: Type.Array(Type.String(), { description: 'As the start gave them, each once' }),
    attempt: Type.Integer(),
    priority: Type.Integer({ description: 'Higher ones leave the queue first' }),
    queue_position: Nullable(Type.Integer({ description: '0: next to run; null: not queued' })),
    estimated_start: Nullable(
      Type.String({
        format: 'date-time',
        description: 'When a queued job gets its turn, by what those before it are estimated to take; null: not known',
      }),
    ),
    reason: Nullable(
      Type.String({
        description: 'Why the job failed, stopped, paused or was put back',
      }),
    ),
    last_interruption: Nullable(Interruption),
    estimated_seconds_remaining: Nullable(Type.Number()),
    output_dir: Type.String(),
    checkpoints: Type.Array(Checkpoint),
    serving_verified: Nullable(
      Type.Boolean({
        description:
          'Whether the result, loaded as for generation, was seen to differ from the base and to have the loss that ' +
          'training had; null before the end, and when a stop left no time for it',
      }),
    ),
    warnings: Type.Array(Type.String()),
    created_at: Timestamp,
    started_at: Nullable(Timestamp),
    completed_at: Nullable(Timestamp),
  },
  { $id: 'StatusResponse' },
)
export type StatusResponse = Static<typeof StatusResponse>

export const JobSummary = Type.Object({
  experiment_name: Type.String(),
  status: JobState,
  started_at: Type.String({
    format: 'date-time',
    description: 'Accepted at, until it runs',
  }),
  completed_at: Type.Optional(Timestamp),
  model: Type.String(),
  tags: Type.Array(Type.String(), { description: 'As the start gave them, each once' }),
  lora_enabled: Type.Boolean(),
  job_id: Type.String(),
  percentage: Type.Number(),
  loss: Nullable(Type.Number()),
  priority: Type.Integer(),
  queue_position: Nullable(Type.Integer({ description: '0: next to run; null: not queued' })),
  estimated_start: Nullable(Timestamp),
  method: enumOf(TRAINING_METHODS),
  dataset: Type.String({ description: 'dataset_path, as it was asked for' }),
  current_step: Type.Integer(),
  total_steps: Type.Integer({ description: '0 until the data set has been tokenised' }),
  tokens_per_second: Type.Number({ description: 'Of the last step; 0 before it' }),
  best_validation_loss: Nullable(Type.Number()),
  estimated_seconds_remaining: Nullable(Type.Number()),
  loss_curve: Type.Array(Type.Number(), {
    description: 'The smoothed loss in at most 60 points, from the start to now',
  }),
})
export type JobSummary = Static<typeof JobSummary>

export const ListResponse = Type.Object({ training_jobs: Type.Array(JobSummary) }, { $id: 'ListResponse' })
export type ListResponse = Static<typeof ListResponse>

const ChangeId = Type.String({ description: 'Last-Event-ID of a client that goes on after this' })

/** What GET /train/changes tells. */
export const JobsChange = Type.Union(
  [
    Type.Object({
      id: ChangeId,
      type: Type.Literal('jobs', { description: 'The whole list: in place of all that is known' }),
      training_jobs: Type.Array(JobSummary, { description: 'As GET /train answers them' }),
    }),
    Type.Object({
      id: ChangeId,
      type: Type.Literal('job', {
        description: 'In place of the one with its job_id; else the newest, in place of one with its name',
      }),
      job: JobSummary,
    }),
    Type.Object({
      id: ChangeId,
      type: Type.Literal('removed', { description: 'There is no such job any more' }),
      experiment_name: Type.String(),
    }),
  ],
  { $id: 'JobsChange' },
)
export type JobsChange = Static<typeof JobsChange>

export const CommandResponse = Type.Object(
  {
    experiment_name: Type.String(),
    status: JobState,
    message: Type.String(),
  },
  { $id: 'CommandResponse' },
)
export type CommandResponse = Static<typeof CommandResponse>

export const PriorityRequest = Type.Object(
  { priority: Type.Integer({ minimum: -1000, maximum: 1000 }) },
  { $id: 'PriorityRequest', additionalProperties: false },
)
export type PriorityRequest = Static<typeof PriorityRequest>

export const PriorityResponse = Type.Object(
  {
    experiment_name: Type.String(),
    status: JobState,
    priority: Type.Integer(),
    queue_position: Type.Integer({ description: '0: next to run' }),
    estimated_start: Nullable(Timestamp),
    message: Type.String(),
  },
  { $id: 'PriorityResponse' },
)
export type PriorityResponse = Static<typeof PriorityResponse>

export const DeleteResponse = Type.Object(
  {
    experiment_name: Type.String(),
    deleted: Type.Literal(true),
    message: Type.String(),
    kept_files: Type.Optional(
      Type.Array(Type.String(), { description: 'Files in its output folder that were not made by it, at most 100' }),
    ),
  },
  { $id: 'DeleteResponse' },
)
export type DeleteResponse = Static<typeof DeleteResponse>

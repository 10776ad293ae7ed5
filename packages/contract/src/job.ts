import { type Static, Type } from 'typebox'
import { ExperimentName, enumOf, Nullable, Timestamp } from './common.ts'

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

export const DATASET_FORMATS = ['alpaca', 'sharegpt'] as const
export type DatasetFormat = (typeof DATASET_FORMATS)[number]
export const DatasetFormat = enumOf(DATASET_FORMATS)

export const DEFAULT_TARGET_MODULES = ['q_proj', 'v_proj', 'k_proj', 'o_proj']

/** The seed document's LoRA table: names, types and defaults. */
export const LoraParams = Type.Object(
  {
    use_lora: Type.Boolean({
      default: false,
      description: 'Enable LoRA fine-tuning',
    }),
    lora_r: Type.Integer({
      default: 16,
      minimum: 1,
      maximum: 1024,
      description: 'LoRA rank (lower = smaller model)',
    }),
    lora_alpha: Type.Number({
      default: 32.0,
      exclusiveMinimum: 0,
      maximum: 65536,
      description: 'LoRA scaling parameter; the update is scaled by alpha / r',
    }),
    lora_dropout: Type.Number({
      default: 0.1,
      minimum: 0,
      exclusiveMaximum: 1,
      description: 'Dropout for LoRA layers',
    }),
    lora_target_modules: Type.Array(Type.String({ minLength: 1, maxLength: 200 }), {
      default: DEFAULT_TARGET_MODULES,
      minItems: 1,
      maxItems: 64,
      description: 'Modules to apply LoRA to, by the last part of their name; ["all-linear"] takes every linear layer',
    }),
    use_qlora: Type.Boolean({
      default: false,
      description: 'Train LoRA over a 4-bit base; implies use_lora',
    }),
  },
  { default: {}, additionalProperties: false },
)
export type LoraParams = Static<typeof LoraParams>

export const DatasetParams = Type.Object(
  {
    dataset_path: Type.String({ minLength: 1, maxLength: 4096 }),
    dataset_format: Type.Optional(enumOf(DATASET_FORMATS, { description: 'Detected when left out' })),
    batch_size: Type.Integer({ default: 4, minimum: 1, maximum: 4096 }),
    max_seq_length: Type.Integer({
      default: 2048,
      minimum: 8,
      maximum: 1048576,
      description: 'Tokens',
    }),
    shuffle: Type.Boolean({ default: true }),
    validation_path: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 4096,
        description: 'Held-out rows: loss at the start and after every epoch',
      }),
    ),
  },
  { additionalProperties: false },
)
export type DatasetParams = Static<typeof DatasetParams>

export const StartRequest = Type.Object(
  {
    experiment_name: ExperimentName,
    model_name: Type.String({ minLength: 1, maxLength: 4096 }),
    epochs: Type.Integer({ default: 3, minimum: 1, maximum: 10000 }),
    learning_rate: Type.Number({
      default: 5e-5,
      exclusiveMinimum: 0,
      maximum: 10,
    }),
    lora: LoraParams,
    dataset: DatasetParams,
    output_dir: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 4096,
        description: 'Default ./outputs/<experiment_name>',
      }),
    ),
    max_steps: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'End after this many optimiser steps',
      }),
    ),
    gradient_accumulation_steps: Type.Integer({
      default: 1,
      minimum: 1,
      maximum: 4096,
    }),
    lr_scheduler_type: enumOf(['linear', 'cosine', 'constant'] as const, {
      default: 'linear',
    }),
    warmup_ratio: Type.Number({ default: 0.03, minimum: 0, maximum: 1 }),
    weight_decay: Type.Number({ default: 0, minimum: 0, maximum: 1 }),
    max_grad_norm: Type.Number({
      default: 1,
      minimum: 0,
      description: 'Global gradient norm; 0 turns clipping off',
    }),
    seed: Type.Integer({ default: 42, minimum: 0, maximum: 4294967295 }),
    save_steps: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'Steps between checkpoints; left out, one about every minute',
      }),
    ),
    overwrite: Type.Boolean({
      default: false,
      description: 'Replace an ended experiment of the same name',
    }),
  },
  { $id: 'StartRequest', additionalProperties: false },
)
export type StartRequest = Static<typeof StartRequest>

export const StartResponse = Type.Object(
  {
    job_id: Type.String(),
    experiment_name: Type.String(),
    status: Type.Literal('started'),
    dataset_info: Type.Object({
      format: DatasetFormat,
      total_samples: Type.Integer(),
      validation_warnings: Type.Array(Type.String()),
    }),
    lora_enabled: Type.Boolean(),
    estimated_time: Type.String({ description: 'For people, e.g. "2 hours"' }),
    estimated_seconds: Nullable(Type.Number()),
    queue_position: Type.Integer({ description: '0: next to run' }),
    output_dir: Type.String(),
  },
  { $id: 'StartResponse' },
)
export type StartResponse = Static<typeof StartResponse>

export const Checkpoint = Type.Object({
  step: Type.Integer(),
  model: Type.String({
    description: 'Name for /generate, e.g. fine-tuned/NAME@step-200',
  }),
  loss: Nullable(Type.Number()),
  created_at: Timestamp,
})
export type Checkpoint = Static<typeof Checkpoint>

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
      grad_norm: Type.Optional(Nullable(Type.Number())),
      validation_loss: Type.Optional(Nullable(Type.Number())),
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
    }),
    job_id: Type.String(),
    model: Type.String(),
    attempt: Type.Integer(),
    queue_position: Nullable(Type.Integer()),
    reason: Nullable(
      Type.String({
        description: 'Why the job failed, stopped, paused or was put back',
      }),
    ),
    estimated_seconds_remaining: Nullable(Type.Number()),
    output_dir: Type.String(),
    checkpoints: Type.Array(Checkpoint),
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
  lora_enabled: Type.Boolean(),
  job_id: Type.String(),
  percentage: Type.Number(),
  loss: Nullable(Type.Number()),
})
export type JobSummary = Static<typeof JobSummary>

export const ListResponse = Type.Object({ training_jobs: Type.Array(JobSummary) }, { $id: 'ListResponse' })
export type ListResponse = Static<typeof ListResponse>

export const CommandResponse = Type.Object(
  {
    experiment_name: Type.String(),
    status: JobState,
    message: Type.String(),
  },
  { $id: 'CommandResponse' },
)
export type CommandResponse = Static<typeof CommandResponse>

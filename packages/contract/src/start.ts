/** What a fine-tuning run is asked for: POST /train/start, and POST /train/estimate without starting it. */
import { type Static, Type } from 'typebox'
import { ExperimentName, enumOf, Nullable } from './common.ts'
import { DATASET_FORMATS, DatasetFormat } from './job.ts'
import { ColumnMap, TagMap } from './maps.ts'

export const DEFAULT_TARGET_MODULES = ['q_proj', 'v_proj', 'k_proj', 'o_proj']
export const OPTIMIZERS = ['adamw', 'adam', 'sgd', 'adafactor', 'muon', 'lion'] as const
export const SCHEDULES = ['linear', 'cosine', 'constant'] as const
export const LOSS_ON = ['completions', 'last_completion', 'all'] as const
export const TRUNCATIONS = ['truncate', 'drop', 'error'] as const

/** The seed document's LoRA table (names, types, defaults), and after it what PEFT's users know. */
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
    use_rslora: Type.Boolean({
      default: false,
      description: 'Rank-stabilised LoRA: scale by alpha / √r, so that high ranks learn as fast as low ones',
    }),
    use_dora: Type.Boolean({
      default: false,
      description: 'DoRA: also trains the length of each weight column; slower, often better at low rank',
    }),
    loraplus_lr_ratio: Type.Number({
      default: 1,
      minimum: 1,
      maximum: 1024,
      description: 'LoRA+: the learning rate of B is this many times that of A; 16 is usual, 1 turns it off',
    }),
    lora_layers: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1024, description: 'Adapt only the last so many layers; left out, all' }),
    ),
  },
  { default: {}, additionalProperties: false },
)
export type LoraParams = Static<typeof LoraParams>

export const DatasetParams = Type.Object(
  {
    dataset_path: Type.String({ minLength: 1, maxLength: 4096 }),
    dataset_format: Type.Optional(enumOf(DATASET_FORMATS, { description: 'Detected when left out' })),
    columns: Type.Optional(ColumnMap),
    tags: Type.Optional(TagMap),
    batch_size: Type.Integer({ default: 4, minimum: 1, maximum: 4096, description: 'Rows' }),
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
        description: 'Held-out rows: loss at the start, every eval_steps and at the end',
      }),
    ),
    validation_split: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 0.5,
        description: 'Share of the rows to hold out, instead of validation_path; chosen by their hash, so it is stable',
      }),
    ),
    loss_on: enumOf(LOSS_ON, {
      default: 'completions',
      description: 'Which tokens are learned: all assistant turns, the last one only, or every token',
    }),
    truncation: enumOf(TRUNCATIONS, {
      default: 'truncate',
      description: 'Rows longer than max_seq_length: cut (their end token stays), left out, or an error',
    }),
    packing: Type.Optional(
      Type.Boolean({
        description:
          "Lay a step's rows end to end instead of padding them; they don't see each other and the result is the same " +
          'to rounding. Left out, the engine does what is faster',
      }),
    ),
  },
  { additionalProperties: false },
)
export type DatasetParams = Static<typeof DatasetParams>

/** All that decides what a run computes. */
const training = {
  model_name: Type.String({ minLength: 1, maxLength: 4096 }),
  epochs: Type.Integer({ default: 3, minimum: 1, maximum: 10000 }),
  learning_rate: Type.Number({
    default: 5e-5,
    exclusiveMinimum: 0,
    maximum: 10,
    description:
      'The highest of the schedule. Usual with adamw: 1e-4 to 5e-4 for LoRA, 1e-5 to 5e-5 for full fine-tuning; ' +
      '`optimizer` says what others want',
  }),
  lora: LoraParams,
  dataset: DatasetParams,
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
  optimizer: enumOf(OPTIMIZERS, {
    default: 'adamw',
    description:
      "adam and adafactor go by adamw's learning rates; muon takes 1 to 5 times more, lion 3 to 10 times less, sgd " +
      '(momentum 0.9) 100 to 1000 times more',
  }),
  lr_scheduler_type: enumOf(SCHEDULES, {
    default: 'linear',
    description: 'After the warm-up: falls to 0 in a straight line or along a cosine, or stays',
  }),
  warmup_ratio: Type.Number({
    default: 0.03,
    minimum: 0,
    maximum: 1,
    description: 'Share of the steps in which the learning rate rises to its highest',
  }),
  weight_decay: Type.Number({
    default: 0,
    minimum: 0,
    maximum: 1,
    description:
      'Of matrices, never of vectors (norms, biases). Apart from the gradient (adamw, adafactor, muon, lion) or as a part ' +
      'of it (adam, sgd). Usual: 0 to 0.1; with lion 3 to 10 times more',
  }),
  max_grad_norm: Type.Number({
    default: 1,
    minimum: 0,
    description: 'Global gradient norm; 0 turns clipping off',
  }),
  seed: Type.Integer({ default: 42, minimum: 0, maximum: 4294967295 }),
  eval_steps: Type.Optional(
    Type.Integer({ minimum: 1, description: 'Steps between evaluations; left out, at the end of every epoch' }),
  ),
  early_stopping_patience: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1000,
      description: 'End after this many evaluations in a row without a lower validation loss',
    }),
  ),
  early_stopping_threshold: Type.Number({
    default: 0,
    minimum: 0,
    description: 'How much lower the validation loss must be to count',
  }),
  load_best_model_at_end: Type.Boolean({
    default: true,
    description: 'With validation: the result is the checkpoint of the lowest validation loss, not the last one',
  }),
  sample_prompts: Type.Array(Type.String({ minLength: 1, maxLength: 4096 }), {
    default: [],
    maxItems: 8,
    description: 'Answered by the base and by the model in training, as events, to see it learn',
  }),
  sample_steps: Type.Optional(
    Type.Integer({ minimum: 1, description: 'Steps between samples; left out, at the end of every epoch' }),
  ),
  sample_max_tokens: Type.Integer({ default: 64, minimum: 1, maximum: 1024 }),
  save_steps: Type.Optional(
    Type.Integer({
      minimum: 1,
      description: 'Steps between checkpoints; left out, at most one a minute, within 2% of the time',
    }),
  ),
  ranks: Type.Integer({
    default: 1,
    minimum: 1,
    maximum: 64,
    description: 'Processes that share each step (data parallel): one for each GPU; on a CPU, threads do that already',
  }),
}

export const StartRequest = Type.Object(
  {
    experiment_name: ExperimentName,
    ...training,
    output_dir: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 4096,
        description: 'Default ./outputs/<experiment_name>',
      }),
    ),
    overwrite: Type.Boolean({
      default: false,
      description: 'Replace an ended experiment of the same name',
    }),
    priority: Type.Integer({
      default: 0,
      minimum: -1000,
      maximum: 1000,
      description: 'Higher ones leave the queue first, equal ones in the order in which they came',
    }),
    resume_from: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 140,
        description:
          'Begin with the weights of an experiment (NAME or NAME@step-N) of the same base and method instead of new ones; ' +
          'steps, learning rate and optimizer start afresh',
      }),
    ),
    tags: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
        maxItems: 16,
        description: 'Words to find it by again; they change nothing of the training',
      }),
    ),
  },
  { $id: 'StartRequest', additionalProperties: false },
)
export type StartRequest = Static<typeof StartRequest>

/** A start as it was accepted: every default is filled in. */
export const AcceptedRequest = Type.Object(StartRequest.properties, { $id: 'AcceptedRequest' })
export type AcceptedRequest = Static<typeof AcceptedRequest>

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

export const CloneRequest = Type.Object(
  {
    experiment_name: ExperimentName,
    output_dir: StartRequest.properties.output_dir,
    overwrite: StartRequest.properties.overwrite,
    changes: Type.Record(Type.String(), Type.Unknown(), {
      default: {},
      description:
        'Fields of a start that are to differ. Objects are merged, everything else is replaced, and null takes a field ' +
        'out (RFC 7396)',
    }),
  },
  { $id: 'CloneRequest', additionalProperties: false },
)
export type CloneRequest = Static<typeof CloneRequest>

/** The same request as a start: what starts nothing (its name, its folder, its place in the queue) may be left out. */
export const EstimateRequest = Type.Object(
  {
    ...training,
    ...Type.Partial(
      Type.Pick(StartRequest, ['experiment_name', 'output_dir', 'overwrite', 'priority', 'resume_from', 'tags']),
    ).properties,
  },
  { $id: 'EstimateRequest', additionalProperties: false },
)
export type EstimateRequest = Static<typeof EstimateRequest>

export const EstimateResponse = Type.Object(
  {
    estimated_time: Type.String({ description: 'For people, e.g. "2 hours"' }),
    estimated_seconds: Type.Number({ description: 'Of the whole run, evaluations included' }),
    fits: Type.Boolean({ description: 'Whether the longest batch fits into memory' }),
    advice: Type.Array(Type.String(), { description: 'What would fit, or be faster' }),
    total_steps: Type.Integer(),
    steps_per_epoch: Type.Integer(),
    samples: Type.Integer({ description: 'Rows that will be trained on' }),
    samples_dropped: Type.Integer(),
    samples_truncated: Type.Integer(),
    tokens: Type.Integer({ description: 'Of one epoch' }),
    trained_tokens: Type.Integer({ description: 'Of one epoch: those that carry loss' }),
    longest_sample: Type.Integer({ description: 'Tokens' }),
    padding_share: Type.Number({ description: 'Of the positions computed, 0 to 1' }),
    measured_steps: Type.Integer({ description: '0: not measured, because it would not fit' }),
    seconds_per_step: Nullable(Type.Number({ description: 'Of a step of average length' })),
    tokens_per_second: Nullable(Type.Number({ description: 'Non-padding tokens processed' })),
    peak_memory_mb: Nullable(Type.Number({ description: 'Measured on the longest batch' })),
    available_memory_mb: Type.Number({ description: 'What a training process may fill at present' }),
    trainable_params: Type.Integer(),
    total_params: Type.Integer(),
    target_modules: Type.Array(Type.String()),
    warnings: Type.Array(Type.String()),
  },
  { $id: 'EstimateResponse' },
)
export type EstimateResponse = Static<typeof EstimateResponse>

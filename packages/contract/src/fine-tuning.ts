/** OpenAI's fine-tuning jobs, as far as they are served under /v1: the jobs of /train in OpenAI's words.
 *  https://platform.openai.com/docs/api-reference/fine-tuning */
import { type Static, Type } from 'typebox'
import { enumOf, Nullable, orNull } from './common.ts'

/** `pattern` is of texts alone, and so is `minimum` of numbers. */
const autoOr = (type: 'integer' | 'number', limits: object, description: string) =>
  Type.Optional(
    Type.Unsafe<'auto' | number | null>({ type: ['string', type, 'null'], pattern: '^auto$', ...limits, description }),
  )

const Hyperparameters = Type.Object(
  {
    n_epochs: autoOr(
      'integer',
      { minimum: 1, maximum: 10_000 },
      '"auto" or a whole number: times through the training file',
    ),
    batch_size: autoOr('integer', { minimum: 1, maximum: 4096 }, '"auto" or a whole number: rows a step'),
    learning_rate_multiplier: autoOr(
      'number',
      { exclusiveMinimum: 0, maximum: 1000 },
      '"auto" or a number: of the learning rate 2e-4 (2e-5 for full fine-tuning)',
    ),
  },
  { additionalProperties: false },
)
export type FineTuningHyperparameters = Static<typeof Hyperparameters>

/** Sixteen pairs, as at OpenAI. */
const Metadata = Type.Record(Type.String(), Type.String({ maxLength: 512 }), {
  maxProperties: 16,
  propertyNames: { type: 'string', minLength: 1, maxLength: 64 },
  description: 'Up to 16 pairs: keys of up to 64 characters, values of up to 512',
})

export const FINE_TUNING_METHODS = ['supervised', 'dpo', 'reinforcement'] as const

export const FineTuningRequest = Type.Object(
  {
    model: Type.String({
      minLength: 1,
      maxLength: 4096,
      description:
        'As model_name in /train/start: a bundled, local or hub model; or fine-tuned/NAME[@step-N], to train that one further',
    }),
    training_file: Type.String({ minLength: 1, maxLength: 100, description: 'The id of an uploaded file' }),
    validation_file: orNull(Type.String({ minLength: 1, maxLength: 100 })),
    suffix: orNull(Type.String({ minLength: 1, maxLength: 64, description: "A part of the model's name" })),
    seed: orNull(Type.Integer({ minimum: 0, maximum: 4_294_967_295, description: '42 when left out' })),
    method: orNull(
      Type.Object({
        type: enumOf(FINE_TUNING_METHODS, { description: 'supervised; the others are refused' }),
        supervised: orNull(Type.Object({ hyperparameters: orNull(Hyperparameters) })),
      }),
    ),
    hyperparameters: orNull(
      Type.Object(Hyperparameters.properties, {
        additionalProperties: false,
        description: 'Deprecated by OpenAI; those of method win',
      }),
    ),
    integrations: orNull(Type.Array(Type.Unknown(), { description: 'Refused unless empty' })),
    metadata: orNull(Metadata),
    training: orNull(
      Type.Record(Type.String(), Type.Unknown(), {
        description:
          'Beside OpenAI’s: fields of a /train/start that are to differ, as in changes of /train/{name}/clone, such as ' +
          '{"lora": {"use_qlora": true}}',
      }),
    ),
  },
  { $id: 'FineTuningRequest', additionalProperties: false },
)
export type FineTuningRequest = Static<typeof FineTuningRequest>

export const FINE_TUNING_STATES = [
  'validating_files',
  'queued',
  'running',
  'paused',
  'succeeded',
  'failed',
  'cancelled',
] as const
export type FineTuningState = (typeof FINE_TUNING_STATES)[number]

const seconds = (description = 'Unix time, seconds') => Type.Integer({ description })

const Chosen = Type.Object({
  n_epochs: Type.Integer(),
  batch_size: Type.Integer(),
  learning_rate_multiplier: Type.Number(),
})

const job = {
  id: Type.String({ description: '"ftjob-" and what follows "job_" in the job_id of /train' }),
  object: Type.Literal('fine_tuning.job'),
  created_at: seconds(),
  finished_at: Nullable(seconds()),
  model: Type.String({ description: 'As it was asked for' }),
  fine_tuned_model: Nullable(
    Type.String({ description: 'fine-tuned/NAME, once the job has ended with something learned' }),
  ),
  organization_id: Type.String(),
  status: enumOf(FINE_TUNING_STATES),
  hyperparameters: Chosen,
  method: Type.Object({
    type: Type.Literal('supervised'),
    supervised: Type.Object({ hyperparameters: Chosen }),
  }),
  training_file: Nullable(Type.String({ description: 'null of a job that was started with a path' })),
  validation_file: Nullable(Type.String()),
  result_files: Type.Array(Type.String(), { description: 'A CSV of losses by step, once the job has ended' }),
  trained_tokens: Nullable(
    Type.Integer({ description: 'Of all epochs, those that are shown only among them; null before the end' }),
  ),
  error: Nullable(Type.Object({ code: Type.String(), message: Type.String(), param: Nullable(Type.String()) })),
  integrations: Type.Array(Type.Unknown(), { maxItems: 0 }),
  seed: Type.Integer(),
  estimated_finish: Nullable(seconds('Of a running job')),
  metadata: Nullable(Type.Record(Type.String(), Type.String())),
}
export const FineTuningJob = Type.Object(job, { $id: 'FineTuningJob' })
export type FineTuningJob = Static<typeof FineTuningJob>

/** Of lists: what comes after that one, in the list's order. */
const page = (limit: number) => ({
  after: Type.Optional(Type.String({ minLength: 1, description: 'The id of the last one of the page before' })),
  limit: Type.Integer({ default: limit, minimum: 1, maximum: 1000 }),
})

export const FineTuningJobsQuery = Type.Object(
  {
    ...page(20),
    metadata: Type.Optional(
      Type.String({ pattern: '^(null)?$', description: 'metadata[KEY]=VALUE, each of which must match; null: none' }),
    ),
  },
  { patternProperties: { '^metadata\\[.*\\]$': { type: 'string' } }, additionalProperties: false },
)
export type FineTuningJobsQuery = Static<typeof FineTuningJobsQuery>

export const FineTuningEventsQuery = Type.Object(page(20), { additionalProperties: false })
export const FineTuningCheckpointsQuery = Type.Object(page(10), { additionalProperties: false })

const list = <T extends ReturnType<typeof Type.Object>>(item: T) => ({
  object: Type.Literal('list'),
  data: Type.Array(item, { description: 'Newest first' }),
  has_more: Type.Boolean(),
})

export const FineTuningJobs = Type.Object(list(Type.Object(job)), { $id: 'FineTuningJobs' })
export type FineTuningJobs = Static<typeof FineTuningJobs>

const FineTuningEvent = Type.Object({
  id: Type.String(),
  object: Type.Literal('fine_tuning.job.event'),
  created_at: seconds(),
  level: enumOf(['info', 'warn', 'error'] as const),
  message: Type.String(),
  type: enumOf(['message', 'metrics'] as const),
  data: Type.Record(Type.String(), Type.Unknown(), {
    description: 'As in /train/{name}/events; of metrics also by OpenAI’s names',
  }),
})
export type FineTuningEvent = Static<typeof FineTuningEvent>

export const FineTuningEvents = Type.Object(list(FineTuningEvent), { $id: 'FineTuningEvents' })
export type FineTuningEvents = Static<typeof FineTuningEvents>

const metric = () => Nullable(Type.Number())

const FineTuningCheckpoint = Type.Object({
  id: Type.String(),
  object: Type.Literal('fine_tuning.job.checkpoint'),
  created_at: seconds(),
  fine_tuning_job_id: Type.String(),
  fine_tuned_model_checkpoint: Type.String({ description: 'fine-tuned/NAME@step-N' }),
  step_number: Type.Integer(),
  metrics: Type.Object({
    step: Type.Integer(),
    train_loss: metric(),
    train_mean_token_accuracy: Type.Null({ description: 'Is not measured' }),
    valid_loss: metric(),
    valid_mean_token_accuracy: metric(),
    full_valid_loss: metric(),
    full_valid_mean_token_accuracy: metric(),
  }),
})
export type FineTuningCheckpoint = Static<typeof FineTuningCheckpoint>

export const FineTuningCheckpoints = Type.Object(
  {
    ...list(FineTuningCheckpoint),
    first_id: Nullable(Type.String()),
    last_id: Nullable(Type.String()),
  },
  { $id: 'FineTuningCheckpoints' },
)
export type FineTuningCheckpoints = Static<typeof FineTuningCheckpoints>

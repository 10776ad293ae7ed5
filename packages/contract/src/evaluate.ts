/** POST /evaluate: models over held-out rows, as a job of its own. */
import { type Static, Type } from 'typebox'
import { enumOf, Nullable, Timestamp } from './common.ts'
import { COMPARED_MODELS, ComparedModel, TextScores } from './compare.ts'
import { DatasetParams } from './start.ts'

export const EVALUATION_STATES = ['queued', 'running', 'completed', 'failed', 'cancelled', 'interrupted'] as const
export type EvaluationState = (typeof EVALUATION_STATES)[number]

export const EvaluationId = Type.String({ pattern: '^ev_[0-9a-z]{20}$', description: '"ev_" and 20 letters or digits' })

const { dataset_path, dataset_format, columns, tags, batch_size, max_seq_length, loss_on, truncation, packing } =
  DatasetParams.properties

const EvaluatedData = Type.Object(
  {
    dataset_path,
    dataset_format,
    columns,
    tags,
    held_out: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 0.5,
        description: 'Only the rows that a training on this file with this validation_split holds out',
      }),
    ),
    batch_size,
    max_seq_length,
    loss_on,
    truncation,
    packing,
  },
  { additionalProperties: false },
)

export const EvaluateRequest = Type.Object(
  {
    models: Type.Array(ComparedModel, {
      minItems: 1,
      maxItems: COMPARED_MODELS,
      description: 'Local models or fine-tuned/NAME[@step-N]; the others are compared with the first, row by row',
    }),
    dataset: EvaluatedData,
    max_samples: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'So many rows, chosen by `seed`; left out, all' }),
    ),
    seed: Type.Integer({ default: 0, minimum: 0, maximum: 4294967295 }),
    generate: Type.Boolean({ default: false, description: 'Also let the models answer rows, and score the answers' }),
    generate_samples: Type.Integer({
      default: 20,
      minimum: 1,
      maximum: 1000,
      description: 'Rows that are answered, of those that are evaluated',
    }),
    max_tokens: Type.Integer({ default: 128, minimum: 1, maximum: 4096, description: 'Of an answer' }),
  },
  { $id: 'EvaluateRequest', additionalProperties: false },
)
export type EvaluateRequest = Static<typeof EvaluateRequest>

const Estimate = Type.Object({
  value: Type.Number(),
  standard_error: Nullable(Type.Number({ description: 'null: of a single row' })),
  interval: Nullable(Type.Array(Type.Number(), { minItems: 2, maxItems: 2, description: 'Of 95%' })),
})
export type Estimate = Static<typeof Estimate>

const rowCounts = {
  rows: Type.Integer({ description: 'That both have' }),
  better: Type.Integer(),
  worse: Type.Integer(),
  same: Type.Integer(),
}

const scoreNames = Object.keys(TextScores.properties) as (keyof typeof TextScores.properties)[]
const estimates = Object.fromEntries(scoreNames.map((name) => [name, Estimate])) as Record<
  (typeof scoreNames)[number],
  typeof Estimate
>

export const ModelEvaluation = Type.Object({
  model: Type.String(),
  state: enumOf(['pending', 'running', 'completed', 'failed', 'cancelled', 'interrupted'] as const),
  error: Nullable(Type.String({ description: 'Why it failed; the others go on' })),
  rows: Nullable(Type.Integer({ description: 'Evaluated' })),
  rows_dropped: Nullable(Type.Integer({ description: 'Of the data set: too long, or nothing of them is supervised' })),
  rows_truncated: Nullable(Type.Integer()),
  trained_tokens: Nullable(
    Type.Integer({ description: 'Supervised tokens of the rows: what loss and accuracy are of' }),
  ),
  loss: Nullable(Estimate),
  perplexity: Nullable(Type.Number({ description: 'e to the loss' })),
  token_accuracy: Nullable(Estimate),
  difference: Nullable(
    Type.Object(
      { loss: Estimate, token_accuracy: Estimate, ...rowCounts },
      {
        description: 'To the first model, on the rows of both; null where their tokens are not the same',
      },
    ),
  ),
  generated: Nullable(
    Type.Object({
      rows: Type.Integer(),
      failed: Type.Integer({ description: 'Rows that it could not answer' }),
      scores: Type.Object(estimates),
      difference: Nullable(
        Type.Object(
          { rouge_l: Estimate, exact_match: Estimate, ...rowCounts },
          {
            description: 'To the first model; better and worse by rouge_l',
          },
        ),
      ),
    }),
  ),
  warnings: Type.Array(Type.String()),
  seconds: Nullable(Type.Number({ description: 'Start, loading and tokenising included' })),
})
export type ModelEvaluation = Static<typeof ModelEvaluation>

export const EvaluationSample = Type.Object({
  sample: Type.Integer({ description: 'Row number, from 0' }),
  why: enumOf(['worst', 'improved', 'worsened'] as const, {
    description: "The last model's highest losses, and where its differ most from the first's",
  }),
  prompt: Type.String({ description: 'Up to 1,000 characters, as the next' }),
  reference: Type.String(),
  models: Type.Array(
    Type.Object({
      model: Type.String(),
      loss: Nullable(Type.Number({ description: 'Mean over its supervised tokens' })),
      token_accuracy: Nullable(Type.Number()),
      text: Nullable(Type.String({ description: 'What it answered, where it was asked' })),
      scores: Nullable(TextScores),
    }),
  ),
})
export type EvaluationSample = Static<typeof EvaluationSample>

const evaluation = {
  id: EvaluationId,
  state: enumOf(EVALUATION_STATES),
  reason: Nullable(
    Type.String({
      description:
        'Why it failed or was interrupted; of a completed one, how many of its models failed, and why the first did',
    }),
  ),
  queue_position: Nullable(Type.Integer({ description: '0: next to run' })),
  created_at: Timestamp,
  started_at: Nullable(Timestamp),
  completed_at: Nullable(Timestamp),
  models: Type.Array(Type.String()),
  dataset_path: Type.String(),
  progress: Nullable(
    Type.Object({
      model: Type.String(),
      stage: Type.String({ description: 'starting, loading_model, tokenizing, evaluating or generating' }),
      done: Type.Integer({ description: 'Rows of this stage; of generating, answers' }),
      total: Type.Integer(),
      models_done: Type.Integer({ description: 'Whose losses are known, or that failed' }),
    }),
  ),
}

export const EvaluationSummary = Type.Object({
  ...evaluation,
  models_failed: Type.Integer(),
})
export type EvaluationSummary = Static<typeof EvaluationSummary>

export const Evaluation = Type.Object(
  {
    ...evaluation,
    request: Type.Record(Type.String(), Type.Unknown(), { description: 'What was asked, defaults filled in' }),
    dataset_rows: Type.Integer({ description: 'Of the data set' }),
    warnings: Type.Array(Type.String()),
    results: Type.Array(ModelEvaluation, { description: 'In the order of models' }),
    samples: Type.Array(EvaluationSample),
  },
  { $id: 'Evaluation' },
)
export type Evaluation = Static<typeof Evaluation>

export const EvaluationStarted = Type.Object(
  { id: EvaluationId, state: enumOf(EVALUATION_STATES), queue_position: Nullable(Type.Integer()) },
  { $id: 'EvaluationStarted' },
)
export type EvaluationStarted = Static<typeof EvaluationStarted>

export const EvaluationsQuery = Type.Object(
  {
    limit: Type.Integer({ default: 50, minimum: 1, maximum: 200 }),
    after: Type.Optional(EvaluationId),
  },
  { additionalProperties: false },
)
export type EvaluationsQuery = Static<typeof EvaluationsQuery>

export const EvaluationsResponse = Type.Object(
  {
    evaluations: Type.Array(EvaluationSummary, { description: 'Newest first' }),
    next: Nullable(
      Type.String({ description: 'Send it as `after` for the following ones; null: these were the last' }),
    ),
  },
  { $id: 'EvaluationsResponse' },
)
export type EvaluationsResponse = Static<typeof EvaluationsResponse>

export const EvaluationDeleted = Type.Object(
  {
    id: EvaluationId,
    deleted: Type.Boolean(),
    state: enumOf(EVALUATION_STATES),
  },
  { $id: 'EvaluationDeleted' },
)
export type EvaluationDeleted = Static<typeof EvaluationDeleted>

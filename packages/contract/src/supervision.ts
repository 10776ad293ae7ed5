/** What training would make of a data set's rows with a model: the supervision report, and the mask of single rows. */
import { type Static, Type } from 'typebox'
import { enumOf, Nullable } from './common.ts'
import { DATASET_FORMATS, DatasetFormat } from './job.ts'
import { ColumnMap, TagMap } from './maps.ts'
import { DatasetParams } from './start.ts'

const { batch_size, max_seq_length, loss_on, truncation } = DatasetParams.properties

const Tokens = Type.Object(
  {
    total: Type.Integer({ description: 'trained + masked + cut + unused' }),
    trained: Type.Integer({ description: 'Predicted: they carry loss' }),
    masked: Type.Integer({ description: 'Shown to the model, but not predicted' }),
    cut: Type.Integer({ description: 'Lost to the limit' }),
    unused: Type.Integer({
      description: 'After the last answer that is learned, or of rows of which nothing is: never shown to the model',
    }),
  },
  { additionalProperties: false },
)

export const SUPERVISION_FINDINGS = [
  'no_assistant_turn',
  'not_learned',
  'template_refuses',
  'empty_answer',
  'no_room_for_answer',
  'too_long',
  'cut_answers',
  'cut_turns',
  'missing_end_token',
  'straddling_token',
  'doubled_bos',
  'no_end_token',
  'system_in_user_turn',
  'tool_results_in_user_turns',
  'turns_joined',
  'turns_split',
  'tools_in_system_message',
  'generation_prompt_differs',
] as const

const report = {
  rows: Type.Integer({ description: 'Valid rows of the data set' }),
  used_rows: Type.Integer({ description: 'Those that something is learned of' }),
  cut_rows: Type.Integer(),
  rows_without_supervision: Type.Integer({ description: 'Nothing of them would be learned, so they are left out' }),
  rows_missing_end: Type.Integer({ description: 'With an answer that no end token closes' }),
  rows_doubled_bos: Type.Integer(),
  examples: Type.Integer({
    description: 'Sequences of an epoch: more than rows where a template makes several of a conversation',
  }),
  tokens: Tokens,
  lengths: Nullable(
    Type.Object(
      {
        min: Type.Integer(),
        mean: Type.Number(),
        p50: Type.Integer(),
        p90: Type.Integer(),
        p95: Type.Integer(),
        p99: Type.Integer(),
        max: Type.Integer(),
      },
      {
        description: 'Tokens of a row up to the end of what is learned, before anything is cut',
        additionalProperties: false,
      },
    ),
  ),
  longest: Type.Array(
    Type.Object({ sample: Type.Integer(), tokens: Type.Integer() }, { additionalProperties: false }),
    { description: 'The ten longest rows' },
  ),
  limit: Type.Integer({ description: "Tokens of an example at most: max_seq_length or the model's context" }),
  suggested_max_seq_length: Nullable(Type.Integer()),
  suggestion: Nullable(Type.String({ description: 'Why that' })),
  batch_size: Type.Integer(),
  steps_per_epoch: Type.Integer({ description: 'Without gradient accumulation' }),
  padding_share: Type.Number({ description: 'Of the positions computed in an epoch, 0 to 1; from 200 of its steps' }),
  padding_share_unpacked: Type.Number({ description: 'The same if rows are not packed' }),
  packing: Type.Boolean({ description: 'Whether training lays rows end to end here, as long as the model allows it' }),
  chat_template: Type.Boolean(),
  opening: Nullable(
    Type.String({
      description: 'What the template puts before a first user turn: some bring a system prompt of their own',
    }),
  ),
  findings: Type.Array(
    Type.Object(
      {
        code: enumOf(SUPERVISION_FINDINGS),
        rows: Type.Integer(),
        samples: Type.Array(Type.Integer(), { description: 'The first ten rows, counted from 0' }),
        message: Type.String(),
      },
      { additionalProperties: false },
    ),
  ),
  refusal: Nullable(Type.String({ description: 'Why a training with these settings would be refused' })),
  cached: Type.Boolean({ description: 'Whether the rows had been tokenised before' }),
}

/** As the engine tells it. */
export const SupervisionReport = Type.Object(report, { additionalProperties: false })
export type SupervisionReport = Static<typeof SupervisionReport>

export const Supervision = Type.Object({
  model_name: Type.String(),
  ...report,
  warnings: Type.Array(Type.String(), { description: 'The findings and the refusal in words' }),
})
export type Supervision = Static<typeof Supervision>

// ---- the mask of rows ----

export const TOKEN_STATES = ['trained', 'masked', 'cut', 'unused'] as const

const PreviewText = Type.Object(
  {
    parts: Type.Array(
      Type.Object(
        {
          role: Nullable(Type.String({ description: 'Who says it; null: what the template puts around it' })),
          text: Type.String(),
        },
        { additionalProperties: false },
      ),
      { description: 'The text, part by part' },
    ),
    pieces: Type.Array(
      Type.Object(
        {
          text: Type.String(),
          ids: Type.Array(Type.Integer(), {
            description: 'Token ids; several where a character is made of several tokens',
          }),
          state: enumOf(TOKEN_STATES),
        },
        { additionalProperties: false },
      ),
      { description: 'The same text, token by token; a BOS token that the tokenizer adds comes first' },
    ),
    tokens: Tokens,
    omitted: Type.Integer({ description: 'Tokens that are not listed, as an answer lists 200,000 at most' }),
  },
  { additionalProperties: false },
)

export const PreviewRow = Type.Object(
  {
    sample: Type.Integer(),
    problem: Nullable(
      Type.String({ description: 'Why nothing of this row is learned: what is wrong with it, where it has errors' }),
    ),
    notes: Type.Array(
      Type.Object({ code: enumOf(SUPERVISION_FINDINGS), message: Type.String() }, { additionalProperties: false }),
    ),
    texts: Type.Array(PreviewText, { description: 'Most rows are one text' }),
  },
  { additionalProperties: false },
)
export type PreviewRow = Static<typeof PreviewRow>

export const PreviewRequest = Type.Object(
  {
    file_path: Type.String({ minLength: 1, maxLength: 4096 }),
    dataset_format: Type.Optional(enumOf(DATASET_FORMATS, { description: 'Detected when left out' })),
    columns: Type.Optional(ColumnMap),
    tags: Type.Optional(TagMap),
    model_name: Type.String({ minLength: 1, maxLength: 4096 }),
    samples: Type.Array(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), {
      minItems: 1,
      maxItems: 20,
      description: 'Row numbers, from 0',
    }),
    max_seq_length,
    loss_on,
    truncation,
  },
  { $id: 'PreviewRequest', additionalProperties: false },
)
export type PreviewRequest = Static<typeof PreviewRequest>

export const PreviewResponse = Type.Object(
  {
    model_name: Type.String(),
    format: DatasetFormat,
    rows: Type.Array(PreviewRow, { description: 'In the order of `samples`' }),
  },
  { $id: 'PreviewResponse' },
)
export type PreviewResponse = Static<typeof PreviewResponse>

/** What a check of a data set may be asked of a model. */
export const SupervisionSettings = {
  model_name: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 4096,
      description: 'With it the answer has `supervision`: what training would make of the rows',
    }),
  ),
  batch_size,
  max_seq_length,
  loss_on,
  truncation,
}

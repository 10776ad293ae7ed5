import { type Static, Type } from 'typebox'
import { enumOf, Nullable } from './common.ts'
import { DATASET_FORMATS, DatasetFormat } from './job.ts'
import { ColumnMap, TagMap } from './maps.ts'
import { Supervision, SupervisionSettings } from './supervision.ts'

export const ValidateRequest = Type.Object(
  {
    file_path: Type.String({ minLength: 1, maxLength: 4096 }),
    dataset_format: Type.Optional(enumOf(DATASET_FORMATS, { description: 'Detected when left out' })),
    validation_path: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 4096,
        description: 'Held-out rows: checked as well, and looked for among those to train on',
      }),
    ),
    columns: Type.Optional(ColumnMap),
    tags: Type.Optional(TagMap),
    ...SupervisionSettings,
  },
  { $id: 'ValidateRequest', additionalProperties: false },
)
export type ValidateRequest = Static<typeof ValidateRequest>

/** One finding of a check. `sample` counts rows from 0, as the seed's "Sample 45" does; `line` from 1. */
export const DatasetIssue = Type.Object({
  code: Type.String({
    description: 'Stable name of the check, e.g. short_instruction',
  }),
  sample: Nullable(Type.Integer()),
  line: Nullable(Type.Integer()),
  offset: Nullable(
    Type.Integer({
      description: "Of the row's first byte in the file, or in what a compressed one unpacks to; null in a table",
    }),
  ),
  field: Nullable(Type.String()),
  message: Type.String(),
})
export type DatasetIssue = Static<typeof DatasetIssue>

/** Of a number that each row has. Percentiles are by nearest rank; from 256 on exact to 1%. */
export const Distribution = Type.Object({
  total: Type.Number(),
  min: Type.Integer(),
  mean: Type.Number(),
  p50: Type.Integer(),
  p90: Type.Integer(),
  p95: Type.Integer(),
  p99: Type.Integer(),
  max: Type.Integer(),
  bars: Type.Optional(
    Type.Array(Type.Object({ from: Type.Integer(), to: Type.Integer(), rows: Type.Integer() }), {
      description:
        'A histogram of at most 20 bars, equally wide up to the 99th percentile; the last one goes on to the maximum. Left ' +
        'out in reports that were made before it was counted',
    }),
  ),
})
export type Distribution = Static<typeof Distribution>

export const DatasetStatistics = Type.Object(
  {
    characters: Nullable(Distribution),
    words: Nullable(Distribution),
    output_words: Nullable(Distribution),
    turns: Nullable(Distribution),
    roles: Type.Record(Type.String(), Type.Integer(), { description: 'Turns of each role' }),
    scripts: Type.Record(Type.String(), Type.Integer(), {
      description: 'Rows by the writing system that most of their characters are of, roughly; commonest first',
    }),
    rows_with_tools: Type.Integer(),
    turns_not_learned: Type.Integer({ description: 'Of the assistant, with train false or weight 0' }),
    duplicates: Type.Object({
      exact: Type.Integer({ description: 'Rows that say the same as an earlier one' }),
      normalised: Type.Integer({ description: 'The same but for letter case and blanks of what is asked' }),
      same_question: Type.Integer({ description: 'Asked before, letter case and blanks aside, with another answer' }),
    }),
  },
  { description: 'Of the rows without errors' },
)
export type DatasetStatistics = Static<typeof DatasetStatistics>

/** Rows to hold out that are there to train on, letter case and blanks of what is asked aside. */
export const Leakage = Type.Object({
  rows: Type.Integer({ description: 'Held-out rows that are trained on' }),
  questions: Type.Integer({ description: 'Held-out rows of which the question is trained on, with another answer' }),
})
export type Leakage = Static<typeof Leakage>

const report = {
  valid: Type.Boolean(),
  format: Nullable(DatasetFormat),
  total_samples: Type.Integer(),
  errors: Type.Array(Type.String()),
  warnings: Type.Array(Type.String()),
  sample_preview: Nullable(
    Type.Record(Type.String(), Type.Unknown(), {
      description: 'The first good row, long texts shortened',
    }),
  ),
  detection: Type.String({ description: 'Why this format was decided on' }),
  confidence: Type.Number({ description: 'Share of the rows that are of this format, 0 to 1; 0 without one' }),
  issues: Type.Array(DatasetIssue, {
    description: 'The first of each kind, with row and line',
  }),
  counts: Type.Record(Type.String(), Type.Integer(), {
    description: 'Findings by code, all counted',
  }),
  valid_samples: Type.Integer(),
  size_bytes: Type.Integer(),
  statistics: DatasetStatistics,
}

export const ValidateResponse = Type.Object(
  {
    ...report,
    validation: Type.Optional(
      Type.Object({ ...report, leakage: Leakage }, { description: 'The same of validation_path' }),
    ),
    supervision: Type.Optional(Nullable(Supervision)),
  },
  { $id: 'ValidateResponse' },
)
export type ValidateResponse = Static<typeof ValidateResponse>

/** Uploaded data sets: the resource under /datasets. */
import { type Static, Type } from 'typebox'
import { enumOf, Nullable, Timestamp } from './common.ts'
import { DatasetIssue, ValidateResponse } from './dataset.ts'
import { DATASET_FORMATS, DatasetFormat } from './job.ts'
import { DatasetReading } from './maps.ts'

export const DatasetId = Type.String({
  pattern: '^ds_[0-9a-z]{20}$',
  description: '"ds_" and 20 letters or digits; may be given wherever a data set\'s path is asked for',
})
/** Such a text is never taken for a path; "./ds_…" is one. */
export const isDatasetId = (text: string): boolean => /^ds_[0-9a-z]{20}$/.test(text)

/** `json`: an array; `jsonl`: a row a line. */
export const CONTAINERS = ['json', 'jsonl', 'csv', 'tsv', 'parquet'] as const
export type ContainerName = (typeof CONTAINERS)[number]

export const NAME_RULE = 'up to 200 characters, without "/", "\\" and control characters'
/** File names are shown and never used as paths. */
export const DatasetName = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '^[^\\u0000-\\u001f\\u007f/\\\\]+$',
  description: NAME_RULE,
})

export const DatasetOrigin = Type.Object({
  operation: enumOf(['split', 'clean'] as const),
  dataset_id: Type.String({ description: 'What it was made of, which may be gone' }),
  part: Type.Optional(enumOf(['train', 'validation'] as const)),
})
export type DatasetOrigin = Static<typeof DatasetOrigin>

const summary = {
  id: DatasetId,
  name: Type.String(),
  format: Nullable(DatasetFormat),
  container: enumOf(CONTAINERS),
  compressed: Type.Boolean({ description: 'gzip' }),
  rows: Type.Integer(),
  valid_rows: Type.Integer(),
  bytes: Type.Integer({ description: 'Of the file as it was uploaded' }),
  sha256: Type.String(),
  valid: Type.Boolean({ description: 'Whether it can be trained on' }),
  created_at: Timestamp,
  origin: Nullable(DatasetOrigin),
  reading: Type.Optional(DatasetReading),
  experiments: Type.Array(Type.String(), { description: 'Names of the experiments that used it, newest first' }),
}

export const DatasetSummary = Type.Object(summary)
export type DatasetSummary = Static<typeof DatasetSummary>

// Within other schemas without their $id, which may stand in a document once.
const dataset = Type.Object({ ...summary, report: Type.Object(ValidateResponse.properties) })

export const Dataset = Type.Object(dataset.properties, { $id: 'Dataset' })
export type Dataset = Static<typeof Dataset>

/** Fields of a form and of a query are texts. */
const inJson = (description: string) => Type.String({ minLength: 2, maxLength: 8192, description })

export const UploadQuery = Type.Object(
  {
    name: Type.Optional(DatasetName),
    format: Type.Optional(enumOf(DATASET_FORMATS, { description: 'Detected when left out' })),
    columns: Type.Optional(inJson('The file\'s names for a row\'s columns, as JSON: {"prompt": "question"}')),
    tags: Type.Optional(inJson('The file\'s names for a turn\'s keys and roles, as JSON: {"user_tag": "client"}')),
  },
  { additionalProperties: false },
)
export type UploadQuery = Static<typeof UploadQuery>

export const UploadResponse = Type.Object(
  {
    ...dataset.properties,
    already_there: Type.Boolean({ description: 'The same bytes had been uploaded before: this is that data set' }),
  },
  { $id: 'UploadResponse' },
)
export type UploadResponse = Static<typeof UploadResponse>

export const DatasetsQuery = Type.Object(
  {
    limit: Type.Integer({ default: 50, minimum: 1, maximum: 200 }),
    after: Type.Optional(DatasetId),
  },
  { additionalProperties: false },
)
export type DatasetsQuery = Static<typeof DatasetsQuery>

export const DatasetsResponse = Type.Object(
  {
    datasets: Type.Array(DatasetSummary, { description: 'Newest first' }),
    next: Nullable(
      Type.String({ description: 'Send it as `after` for the following ones; null: these were the last' }),
    ),
  },
  { $id: 'DatasetsResponse' },
)
export type DatasetsResponse = Static<typeof DatasetsResponse>

export const RowsQuery = Type.Object(
  {
    offset: Type.Integer({ default: 0, minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    limit: Type.Integer({ default: 20, minimum: 1, maximum: 200 }),
    issues: Type.Boolean({ default: false, description: 'Only the rows that the report names' }),
  },
  { additionalProperties: false },
)
export type RowsQuery = Static<typeof RowsQuery>

export const DatasetRow = Type.Object({
  sample: Type.Integer({ description: 'Row number from 0' }),
  line: Nullable(Type.Integer({ description: 'In the file, from 1; null where a file has no lines' })),
  row: Type.Unknown({ description: 'As it is in the file; null when it is not JSON' }),
  text: Nullable(Type.String({ description: 'Of a row that is not JSON, shortened' })),
  messages: Nullable(
    Type.Array(Type.Object({ role: Type.String(), content: Type.String(), train: Type.Optional(Type.Boolean()) }), {
      description: 'As it is trained on; null for a row with errors, none beside `raw`',
    }),
  ),
  tools: Type.Optional(Type.Array(Type.Unknown())),
  raw: Type.Optional(
    Type.Object(
      { prompt: Type.String(), completion: Type.String() },
      { description: 'Instead of messages: text to continue as it stands' },
    ),
  ),
  issues: Type.Array(DatasetIssue),
})
export type DatasetRow = Static<typeof DatasetRow>

export const RowsResponse = Type.Object(
  {
    dataset_id: Type.String(),
    total: Type.Integer({ description: 'Rows that there are; with `issues`, rows that the report names' }),
    offset: Type.Integer(),
    rows: Type.Array(DatasetRow, { description: 'Fewer than asked for when they are long' }),
    next_offset: Nullable(Type.Integer()),
  },
  { $id: 'RowsResponse' },
)
export type RowsResponse = Static<typeof RowsResponse>

export const DeletedDataset = Type.Object(
  { id: Type.String(), name: Type.String(), deleted: Type.Literal(true) },
  { $id: 'DeletedDataset' },
)
export type DeletedDataset = Static<typeof DeletedDataset>

export const SplitRequest = Type.Object(
  {
    validation_share: Type.Number({ exclusiveMinimum: 0, maximum: 0.5, description: 'Of the rows, about' }),
    seed: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 4294967295,
        description: "Another choice of rows, as stable; left out, the same as a run's validation_split",
      }),
    ),
  },
  { $id: 'SplitRequest', additionalProperties: false },
)
export type SplitRequest = Static<typeof SplitRequest>

export const SplitResponse = Type.Object({ train: dataset, validation: dataset }, { $id: 'SplitResponse' })
export type SplitResponse = Static<typeof SplitResponse>

export const REPAIRS = [
  'trim',
  'fix_mojibake',
  'normalise_roles',
  'drop_empty',
  'drop_duplicates',
  'drop_invalid',
  'convert',
] as const
export type RepairName = (typeof REPAIRS)[number]

export const CleanRequest = Type.Object(
  {
    repairs: Type.Array(enumOf(REPAIRS), {
      minItems: 1,
      maxItems: REPAIRS.length,
      description: `Done in this order, whatever the order here: ${REPAIRS.join(', ')}`,
    }),
    format: Type.Optional(enumOf(DATASET_FORMATS, { description: 'What `convert` makes of every row' })),
    dry_run: Type.Boolean({ default: false, description: 'Only tell what would be done' }),
  },
  { $id: 'CleanRequest', additionalProperties: false },
)
export type CleanRequest = Static<typeof CleanRequest>

export const RepairReport = Type.Object({
  repair: enumOf(REPAIRS),
  rows_changed: Type.Integer(),
  rows_dropped: Type.Integer(),
  first_rows: Type.Array(
    Type.Object({ sample: Type.Integer(), what: Type.String({ description: 'What was done to it' }) }),
    { description: 'The first ten that it touched' },
  ),
})
export type RepairReport = Static<typeof RepairReport>

export const CleanResponse = Type.Object(
  {
    dataset: Nullable(dataset),
    rows_before: Type.Integer(),
    rows_after: Type.Integer(),
    repairs: Type.Array(RepairReport),
  },
  { $id: 'CleanResponse' },
)
export type CleanResponse = Static<typeof CleanResponse>

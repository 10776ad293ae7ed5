import { type Static, Type } from 'typebox'
import { Nullable } from './common.ts'
import { DatasetFormat } from './job.ts'
import { Supervision, SupervisionSettings } from './supervision.ts'

export const ValidateRequest = Type.Object(
  { file_path: Type.String({ minLength: 1, maxLength: 4096 }), ...SupervisionSettings },
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
  field: Nullable(Type.String()),
  message: Type.String(),
})
export type DatasetIssue = Static<typeof DatasetIssue>

export const ValidateResponse = Type.Object(
  {
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
    issues: Type.Array(DatasetIssue, {
      description: 'The first of each kind, with row and line',
    }),
    counts: Type.Record(Type.String(), Type.Integer(), {
      description: 'Findings by code, all counted',
    }),
    valid_samples: Type.Integer(),
    size_bytes: Type.Integer(),
    supervision: Type.Optional(Nullable(Supervision)),
  },
  { $id: 'ValidateResponse' },
)
export type ValidateResponse = Static<typeof ValidateResponse>

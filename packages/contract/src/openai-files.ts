/** OpenAI's files, as far as they are served under /v1: data sets of /datasets, and the results of fine-tuning jobs. */
import { type Static, Type } from 'typebox'
import { enumOf } from './common.ts'
import { UploadQuery } from './uploads.ts'

export const FILE_PURPOSES = ['fine-tune', 'fine-tune-results'] as const

const file = {
  id: Type.String({ description: '"file-" and what follows "ds_" in the id of its data set' }),
  object: Type.Literal('file'),
  bytes: Type.Integer(),
  created_at: Type.Integer({ description: 'Unix time, seconds' }),
  filename: Type.String(),
  purpose: enumOf(FILE_PURPOSES),
  status: enumOf(['processed', 'error'] as const, {
    description: 'error: it has rows that can not be trained on; status_details has the first of them',
  }),
  status_details: Type.Union([Type.String(), Type.Null()]),
  expires_at: Type.Null({ description: 'Files stay until they are deleted' }),
}
export const OpenAIFile = Type.Object(file, { $id: 'OpenAIFile' })
export type OpenAIFile = Static<typeof OpenAIFile>

/** Fields of the form beside the file. What follows `purpose` is what an upload to /datasets takes, too. */
export const FileForm = Type.Object(
  {
    purpose: enumOf(['fine-tune'] as const),
    format: UploadQuery.properties.format,
    columns: UploadQuery.properties.columns,
    tags: UploadQuery.properties.tags,
  },
  { additionalProperties: false },
)
export type FileForm = Static<typeof FileForm>

export const FilesQuery = Type.Object(
  {
    purpose: Type.Optional(Type.String({ description: `${FILE_PURPOSES.join(' or ')}; left out, both` })),
    limit: Type.Integer({ default: 10_000, minimum: 1, maximum: 10_000 }),
    order: enumOf(['desc', 'asc'] as const, { default: 'desc', description: 'By created_at' }),
    after: Type.Optional(Type.String({ description: 'The id of the last one of the page before' })),
  },
  { additionalProperties: false },
)
export type FilesQuery = Static<typeof FilesQuery>

export const OpenAIFiles = Type.Object(
  {
    object: Type.Literal('list'),
    data: Type.Array(Type.Object(file)),
    first_id: Type.Union([Type.String(), Type.Null()]),
    last_id: Type.Union([Type.String(), Type.Null()]),
    has_more: Type.Boolean(),
  },
  { $id: 'OpenAIFiles' },
)
export type OpenAIFiles = Static<typeof OpenAIFiles>

export const FileDeleted = Type.Object(
  { id: Type.String(), object: Type.Literal('file'), deleted: Type.Literal(true) },
  { $id: 'FileDeleted' },
)
export type FileDeleted = Static<typeof FileDeleted>

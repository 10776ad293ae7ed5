import { type Static, Type } from 'typebox'
import { enumOf, Nullable, Timestamp } from './common.ts'

/** What a key may do. `admin` includes the others; `train` and `generate` include `read`. */
export const SCOPES = ['read', 'train', 'generate', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

const ScopeName = enumOf(SCOPES)

export const KeyId = Type.String({
  pattern: '^[0-9a-f]{12}$',
  description: '12 hexadecimal digits, as GET /keys tells',
})

export const CreateKeyRequest = Type.Object(
  {
    name: Type.String({
      pattern: '^(?!\\s)[^\\u0000-\\u001f\\u007f-\\u009f]{1,100}$',
      description: 'What it is for, in at most 100 characters of one line; several keys may have the same',
    }),
    scopes: Type.Array(ScopeName, {
      minItems: 1,
      maxItems: SCOPES.length,
      uniqueItems: true,
      description: 'What it may do: "admin" includes the others, "train" and "generate" include "read"',
    }),
    expires_at: Type.Optional(
      Type.Union([Timestamp, Type.Null()], { description: 'From then on it is not valid; left out or null: never' }),
    ),
  },
  { $id: 'CreateKeyRequest', additionalProperties: false },
)
export type CreateKeyRequest = Static<typeof CreateKeyRequest>

const about = {
  id: Type.String(),
  name: Type.String(),
  scopes: Type.Array(ScopeName),
  created_at: Timestamp,
  last_used_at: Type.Union([Timestamp, Type.Null()], { description: 'To the minute; null: never' }),
  expires_at: Nullable(Timestamp),
}

/** Neither a key nor its hash is ever told. */
export const KeyInfo = Type.Object(about, { $id: 'KeyInfo' })
export type KeyInfo = Static<typeof KeyInfo>

export const CreatedKey = Type.Object(
  { ...about, key: Type.String({ description: 'The key itself: this is the only time that it is shown' }) },
  { $id: 'CreatedKey' },
)
export type CreatedKey = Static<typeof CreatedKey>

export const KeysResponse = Type.Object({ keys: Type.Array(KeyInfo) }, { $id: 'KeysResponse' })
export type KeysResponse = Static<typeof KeysResponse>

export const OwnKey = Type.Object(
  {
    id: Type.String({ description: '"admin" is the one of the configuration' }),
    name: Type.String(),
    scopes: Type.Array(ScopeName),
    may: Type.Array(ScopeName, { description: 'The scopes with those that they include' }),
    expires_at: Nullable(Timestamp),
  },
  { $id: 'OwnKey' },
)
export type OwnKey = Static<typeof OwnKey>

export const DeletedKey = Type.Object(
  { id: Type.String(), name: Type.String(), deleted: Type.Literal(true) },
  { $id: 'DeletedKey' },
)
export type DeletedKey = Static<typeof DeletedKey>

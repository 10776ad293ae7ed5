import { type Static, type TSchema, Type } from 'typebox'

/** RFC 3339 in UTC with seconds or milliseconds, e.g. `2024-01-15T10:30:00Z`. */
export const Timestamp = Type.String({ format: 'date-time' })

/** Names become folder names and URL segments, so nothing else is let in. */
export const ExperimentName = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$',
  description: 'Letters, digits, ".", "_" and "-"; starts with a letter or digit; at most 100',
})

export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

export const enumOf = <const T extends readonly string[]>(values: T, options: object = {}) =>
  Type.Unsafe<T[number]>({ type: 'string', enum: values, ...options })

/** May be left out or null, which its clients send for "not given". */
export const orNull = <T extends TSchema>(schema: T) =>
  Type.Optional(
    Type.Unsafe<Static<T> | null>({
      ...schema,
      type: [(schema as unknown as { type: string }).type, 'null'],
      ...('enum' in schema && { enum: [...(schema.enum as string[]), null] }),
    }),
  )

/** What a form says beside its file: known fields, each as its schema wants it, and the file's name. */
import {
  ColumnMap,
  type DatasetReading,
  NAME_RULE,
  ServiceError,
  TagMap,
  type UploadQuery,
} from '@mlx-training/contract'
import type { Static, TObject, TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { closest } from '../files/closest.ts'

export function checkField({ properties }: TObject, field: string, value: unknown): void {
  const schema = properties[field] as TSchema & { enum?: string[] }
  if (value === undefined || Value.Check(schema, value)) return
  const rule = schema.enum
    ? `${schema.enum.length > 1 ? 'one of ' : ''}${schema.enum.join(', ')}`
    : field === 'name'
      ? NAME_RULE
      : 'JSON of up to 8192 bytes'
  throw unprocessable(field, `must be ${rule}`)
}

/** A mangled part has no name at all, whatever the parser's types say. */
export function unknownField(name: string | undefined, known: string[]): ServiceError {
  const field = name ?? ''
  if (field.startsWith('expires_after'))
    return unprocessable('expires_after', 'is not supported: files stay until they are deleted. Leave it out')
  return unprocessable(field, `is not a known field (known are file, ${known.join(', ')})`)
}

/** How the file is to be read. */
export function readingOf({ format, columns, tags }: UploadQuery): DatasetReading {
  return {
    ...(format !== undefined && { format }),
    ...(columns !== undefined && { columns: parsed('columns', ColumnMap, columns) }),
    ...(tags !== undefined && { tags: parsed('tags', TagMap, tags) }),
  }
}

/** A field that is JSON. */
function parsed<Schema extends TObject>(field: string, schema: Schema, text: string): Static<Schema> {
  const known = Object.keys(schema.properties).join(', ')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw unprocessable(field, `must be JSON: an object of ${known}`)
  }
  if (Value.Check(schema, value)) return value
  const unknown = isObject(value) && Object.keys(value).find((key) => !Object.hasOwn(schema.properties, key))
  if (typeof unknown === 'string') {
    const guess = closest(unknown, Object.keys(schema.properties))
    const hint = guess ? `did you mean ${guess}?` : `known are ${known}`
    throw unprocessable(field, `has ${JSON.stringify(unknown.slice(0, 100))}, which is not known (${hint})`)
  }
  const [error] = Value.Errors(schema, value)
  const where = error?.instancePath ? `: ${error.instancePath.slice(1)} ${error.message}` : ''
  throw unprocessable(field, `must be an object of ${known}, each a text of 1 to 200 characters${where}`)
}

const isObject = (value: unknown): value is object =>
  value !== null && typeof value === 'object' && !Array.isArray(value)

/** The last part of a path, without what a name can't hold. */
export function safeName(fileName: string | undefined): string {
  const base = (fileName ?? '').split(/[/\\]/).at(-1) ?? ''
  const name = base
    .replaceAll(/\p{Cc}/gu, '')
    .toWellFormed()
    .trim()
  return name === '' ? 'data' : [...name].slice(-200).join('')
}

export const unprocessable = (field: string, message: string) =>
  new ServiceError('unprocessable', `${field} ${message}`, { errors: [{ field, message }] })

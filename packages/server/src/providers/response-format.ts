import { type GenerateRequest, ServiceError } from '@mlx-training/contract'
import type { ResponseFormat } from './port.ts'

/** Of a schema's JSON, and of what it nests: more than any sensible one has, and less than makes a parser work hard. */
const MAX_BYTES = 64 * 1024
const MAX_DEPTH = 64

/** The form that an answer is to have; undefined: any. ServiceError('invalid_parameters') that names the field. */
export function responseFormat(format: GenerateRequest['response_format']): ResponseFormat | undefined {
  if (format === undefined || format.type === 'text') return undefined
  const { type, json_schema } = format
  if (type === 'json_object') return { type }
  if (json_schema === undefined) throw wrong('json_schema', 'is needed with the type json_schema')
  const field = 'json_schema.schema'
  if (depthOf(json_schema.schema) > MAX_DEPTH) throw wrong(field, `is nested deeper than ${MAX_DEPTH} levels`)
  const bytes = Buffer.byteLength(JSON.stringify(json_schema.schema))
  if (bytes > MAX_BYTES) throw wrong(field, `has ${bytes} bytes as JSON; the limit is ${MAX_BYTES}`)
  return { type, json_schema }
}

/** Stops where the limit is passed, and uses no recursion: the value comes from outside. */
function depthOf(value: unknown): number {
  let level: unknown[] = [value]
  for (let depth = 0; ; depth++) {
    const inner = level.flatMap((each) => (each !== null && typeof each === 'object' ? Object.values(each) : []))
    if (inner.length === 0 || depth > MAX_DEPTH) return depth
    level = inner
  }
}

function wrong(name: string, message: string): ServiceError {
  const field = `response_format.${name}`
  return new ServiceError('invalid_parameters', `${field}: ${message}`, { errors: [{ field, message }] })
}

import { type FieldError, ServiceError } from '@mlx-training/contract'
import { Ajv, type ErrorObject, type Options } from 'ajv'
import ajvFormats from 'ajv-formats'
import type { FastifySchemaCompiler, FastifySchemaValidationError } from 'fastify'
import { closest } from '../files/closest.ts'

const OPTIONS: Options = { useDefaults: true, removeAdditional: false, verbose: true, allowUnionTypes: true }
const MAX_ERRORS = 20
const MAX_GIVEN = 100
/** Values in a body, up to which all of its errors are looked for: half a million wrong ones in 1 MiB took seconds. */
const MAX_VALUES = 1000

/** Bodies are taken as they are typed; URL parts are text by nature, so they are converted. */
export function schemaCompiler(): FastifySchemaCompiler<object> {
  const [strict, strictAll, coercing, coercingAll] = [false, true].flatMap((coerceTypes) =>
    [false, true].map((allErrors) => ajvFormats.default(new Ajv({ ...OPTIONS, coerceTypes, allErrors }))),
  ) as [Ajv, Ajv, Ajv, Ajv]
  return ({ schema, httpPart }) => {
    const body = httpPart === 'body'
    const first = (body ? strict : coercing).compile(schema)
    const all = (body ? strictAll : coercingAll).compile(schema)
    const validate: ReturnType<FastifySchemaCompiler<object>> = (data) => {
      if (first(data)) return true
      const tell = isSmall(data) ? all : first
      validate.errors = tell(data) ? null : tell.errors
      return false
    }
    return validate
  }
}

function isSmall(data: unknown): boolean {
  const open = [data]
  for (let count = 0; open.length > 0; count++) {
    const value = open.pop()
    if (count > MAX_VALUES) return false
    if (value !== null && typeof value === 'object') {
      const inner = Object.values(value)
      if (inner.length > MAX_VALUES) return false
      open.push(...inner)
    }
  }
  return true
}

/** Turns what ajv found into one entry a field and a sentence that names the first ones. */
export function validationError(found: FastifySchemaValidationError[], part: string): ServiceError {
  const errors = fieldErrors(found as ErrorObject[])
  const said = errors.slice(0, 3).map(({ field, message }) => `${field || `The ${part}`} ${message}`)
  const more = errors.length > 3 ? `; and ${errors.length - 3} more` : ''
  return new ServiceError('unprocessable', said.join('; ') + more, {
    errors: errors.map((error) => ({ ...error, field: error.field || part })),
  })
}

function fieldErrors(found: ErrorObject[]): FieldError[] {
  const inside = (union: ErrorObject) => found.filter((error) => error.schemaPath.startsWith(`${union.schemaPath}/`))
  const unions = found.filter((error) => error.keyword === 'anyOf')
  // What has the type that one alternative asks for is told what that one says: "yesterday" is text, but no date.
  const tellers = new Map(unions.map((union) => [union, inside(union).filter(isOfValue(union))]))
  const hidden = new Set(unions.flatMap(inside))
  return found
    .filter((error) => !hidden.has(error) && error.keyword !== 'propertyNames')
    .flatMap((error) => (tellers.get(error)?.length === 1 ? (tellers.get(error) as ErrorObject[]) : error))
    .slice(0, MAX_ERRORS)
    .map((error) => {
      if (error.keyword === 'required')
        return {
          field: fieldOf(error, error.params.missingProperty),
          message: 'is required',
        }
      if (error.keyword === 'additionalProperties') return unknownField(error)
      return {
        field: fieldOf(error),
        message: error.propertyName === undefined ? messageOf(error) : keyMessage(error.propertyName, error),
        given: shortened(error.data),
      }
    })
}

const isOfValue = (union: ErrorObject) => (error: ErrorObject) =>
  error.instancePath === union.instancePath && error.keyword === 'format'

function fieldOf(error: ErrorObject, child?: string): string {
  const parts = error.instancePath.split('/').slice(1).map(unescapePointer)
  return (child === undefined ? parts : [...parts, child]).join('.')
}

const unescapePointer = (part: string) => part.replaceAll('~1', '/').replaceAll('~0', '~')

function unknownField(error: ErrorObject): FieldError {
  const name: string = error.params.additionalProperty
  const here = Object.keys(error.parentSchema?.properties ?? {})
  const guess = elsewhere(name, error.parentSchema) ?? closest(name, here)
  const hint = guess ? ` (did you mean ${guess}?)` : ` (known are ${here.join(', ')})`
  return {
    field: fieldOf(error, cut(name)),
    message: `is not a known field${hint}`,
  }
}

/** `lora_r` at the top level belongs into `lora`. */
function elsewhere(name: string, schema: ErrorObject['parentSchema']): string | null {
  for (const [outer, inner] of Object.entries<{ properties?: object }>(schema?.properties ?? {}))
    if (Object.hasOwn(inner.properties ?? {}, name)) return `${outer}.${name}`
  return null
}

/** Of a key whose name is not allowed, such as an empty one. */
const keyMessage = (name: string, error: ErrorObject) =>
  `has the key ${JSON.stringify(cut(name))}, which ${messageOf(error)}`

function messageOf(error: ErrorObject): string {
  const given = told(error.data)
  const { params } = error
  switch (error.keyword) {
    case 'type':
      // Of a body that is not there; a parameter is never null.
      if (error.instancePath === '' && (error.data === null || error.data === undefined))
        return 'must be a JSON object, and is empty'
      return `must be ${[params.type].flat().filter(isValue).map(typeName).join(' or ')}, not ${given}`
    case 'enum': {
      const values = params.allowedValues as string[]
      const guess = typeof error.data === 'string' ? closest(error.data, values) : null
      return `must be one of ${values.join(', ')}, not ${given}${guess ? ` (did you mean ${guess}?)` : ''}`
    }
    case 'minimum':
      return `must be at least ${params.limit}, not ${given}`
    case 'maximum':
      return `must be at most ${params.limit}, not ${given}`
    case 'exclusiveMinimum':
      return `must be greater than ${params.limit}, not ${given}`
    case 'exclusiveMaximum':
      return `must be less than ${params.limit}, not ${given}`
    case 'minLength':
      return params.limit === 1 ? 'must not be empty' : `must have at least ${params.limit} characters`
    case 'maxLength':
      return `must have at most ${params.limit} characters`
    case 'minItems':
      return `must have at least ${params.limit} ${params.limit === 1 ? 'entry' : 'entries'}`
    case 'maxItems':
      return `must have at most ${params.limit} entries, not ${(error.data as unknown[]).length}`
    case 'maxProperties':
      return `must have at most ${params.limit} entries`
    case 'uniqueItems':
      return `must not name ${told((error.data as unknown[])[params.i])} twice`
    case 'format':
      return params.format === 'date-time'
        ? `must be a date, a time and its zone, such as 2030-01-31T12:00:00Z, not ${given}`
        : `must be a ${params.format}, not ${given}`
    case 'pattern':
      return `can't be ${given}: ${error.parentSchema?.description ?? `it must match ${params.pattern}`}`
    case 'anyOf':
      return `must be ${(error.schema as { type?: string }[]).map(({ type }) => typeName(type ?? 'null')).join(' or ')}, not ${given}`
    default:
      return error.message ?? 'is not valid'
  }
}

const TYPE_NAMES: Record<string, string> = {
  string: 'text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  null: 'null',
}
const typeName = (type: string) => TYPE_NAMES[type] ?? type
const isValue = (type: string, _at: number, types: string[]) => type !== 'null' || types.length === 1

const cut = (text: string) => (text.length > MAX_GIVEN ? `${text.slice(0, MAX_GIVEN)}…` : text)

/** Never walks into lists or objects: a body nested a hundred thousand deep must not overflow the stack here. */
function shortened(value: unknown): unknown {
  if (typeof value === 'string') return cut(value)
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (value !== null && typeof value === 'object') return 'an object'
  return value
}

function told(value: unknown): string {
  if (value === undefined) return 'nothing'
  return typeof value === 'string' ? `the text ${JSON.stringify(cut(value))}` : String(shortened(value))
}

/** The parameters of a start as the contract has them: one entry a field, by its dotted path. */
import schema from 'virtual:start'

export interface JsonSchema {
  type?: string
  description?: string
  default?: unknown
  enum?: readonly string[]
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  pattern?: string
  minItems?: number
  properties?: Record<string, JsonSchema>
}

export type Kind = 'number' | 'integer' | 'boolean' | 'choice' | 'list' | 'text'

export interface Parameter extends JsonSchema {
  path: string
  kind: Kind
}

const KINDS: Record<string, Kind> = { number: 'number', integer: 'integer', boolean: 'boolean', array: 'list' }

function* parametersOf({ properties = {} }: JsonSchema, prefix = ''): Generator<Parameter> {
  for (const [name, property] of Object.entries(properties)) {
    const path = prefix + name
    if (property.properties) yield* parametersOf(property, `${path}.`)
    else yield { ...property, path, kind: property.enum ? 'choice' : (KINDS[property.type ?? ''] ?? 'text') }
  }
}

export const PARAMETERS: ReadonlyMap<string, Parameter> = new Map(
  [...parametersOf(schema)].map((parameter) => [parameter.path, parameter]),
)

export function parameterAt(path: string): Parameter {
  const found = PARAMETERS.get(path)
  if (!found) throw new Error(`the contract has no field ${path}`)
  return found
}

/** `1 to 1,024`, `more than 0, at most 10`; null where there is no limit worth telling. */
export function rangeOf({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, kind }: Parameter): string | null {
  if (kind !== 'number' && kind !== 'integer') return null
  const told = (value: number) => value.toLocaleString('en', { maximumFractionDigits: 10 })
  if (minimum !== undefined && maximum !== undefined) return `${told(minimum)} to ${told(maximum)}`
  const parts = [
    minimum !== undefined && `at least ${told(minimum)}`,
    exclusiveMinimum !== undefined && `more than ${told(exclusiveMinimum)}`,
    maximum !== undefined && `at most ${told(maximum)}`,
    exclusiveMaximum !== undefined && `less than ${told(exclusiveMaximum)}`,
  ].filter(Boolean)
  return parts.length > 0 ? parts.join(', ') : null
}

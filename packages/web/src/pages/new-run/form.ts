/** What is entered, field by field, and the request that it makes. */
import type { StartInput } from '@mlx-training/sdk'
import { PARAMETERS, type Parameter } from './schema.ts'
import type { Value, Values } from './values.ts'

type Tree = Record<string, unknown>

export function valuesOf(request: object): Values {
  const values: Record<string, Value> = {}
  for (const path of PARAMETERS.keys()) {
    const value = path.split('.').reduce<unknown>((tree, key) => (tree as Tree | undefined)?.[key], request)
    if (value === undefined || value === null) continue
    values[path] = typeof value === 'number' ? numberText(value) : (value as Value)
  }
  return values
}

/** 0.00005 rather than 5e-5 down to where zeros have to be counted. */
export const numberText = (value: number) =>
  value !== 0 && Math.abs(value) < 1e-4 ? value.toExponential() : String(value)

/** Only what is not as it would be anyway, so that the call beside the form is short. */
export function requestOf(values: Values): StartInput {
  const request: Tree = {}
  for (const [path, parameter] of PARAMETERS) {
    const value = sent(parameter, values[path])
    if (value === undefined || same(value, parameter.default)) continue
    const keys = path.split('.')
    const name = keys.pop() as string
    let tree = request
    for (const key of keys) {
      tree[key] ??= {}
      tree = tree[key] as Tree
    }
    tree[name] = value
  }
  return request as unknown as StartInput
}

function sent({ kind }: Parameter, value: Value | undefined): unknown {
  if (value === undefined || value === '') return undefined
  if (kind !== 'number' && kind !== 'integer') return value
  const number = Number(value)
  return Number.isNaN(number) ? value : number
}

export const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)

/** Whether a field is as it would be if nobody had touched it. */
export const isDefault = (parameter: Parameter, value: Value | undefined) => {
  const number = sent(parameter, value)
  return number === undefined || same(number, parameter.default)
}

/** What the server would say of a field's value, before it is asked; null: nothing. */
export function problemOf(parameter: Parameter, value: Value | undefined): string | null {
  if (value === undefined || value === '') return null
  const { kind, minimum, maximum, exclusiveMinimum, exclusiveMaximum, pattern, minItems = 0 } = parameter
  if (kind === 'list') return (value as readonly string[]).length < minItems ? 'must not be empty' : null
  if (kind === 'text') return pattern && !new RegExp(pattern).test(String(value)) ? `is not allowed` : null
  if (kind !== 'number' && kind !== 'integer') return null
  const number = Number(value)
  if (Number.isNaN(number)) return 'must be a number'
  if (kind === 'integer' && !Number.isInteger(number)) return 'must be a whole number'
  if (minimum !== undefined && number < minimum) return `must be at least ${minimum}`
  if (exclusiveMinimum !== undefined && number <= exclusiveMinimum) return `must be more than ${exclusiveMinimum}`
  if (maximum !== undefined && number > maximum) return `must be at most ${maximum}`
  if (exclusiveMaximum !== undefined && number >= exclusiveMaximum) return `must be less than ${exclusiveMaximum}`
  return null
}

export function problemsOf(values: Values): Record<string, string> {
  const problems: Record<string, string> = {}
  for (const [path, parameter] of PARAMETERS) {
    const problem = problemOf(parameter, values[path])
    if (problem) problems[path] = problem
  }
  return problems
}

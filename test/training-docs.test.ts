import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { StartRequest } from '@mlx-training/contract'
import { expect, test } from 'vitest'

// docs/training.md explains every field of POST /train/start. Its tables are held to the contract: each field stands there
// once, with the type, the limits and the default that the schema has, and nothing else does.

interface Schema {
  type?: string
  enum?: string[]
  items?: Schema
  properties?: Record<string, Schema>
  required?: string[]
  default?: unknown
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  minItems?: number
  maxItems?: number
}

const TYPES: Record<string, string> = { string: 'text', boolean: 'true, false' }

function typeOf(schema: Schema): string {
  if (schema.enum) return schema.enum.join(', ')
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, minItems, maxItems } = schema
  const limits = [
    minimum !== undefined && `≥ ${minimum}`,
    exclusiveMinimum !== undefined && `> ${exclusiveMinimum}`,
    maximum !== undefined && `≤ ${maximum}`,
    exclusiveMaximum !== undefined && `< ${exclusiveMaximum}`,
  ]
  const type = schema.items
    ? `${minItems ?? 0} to ${maxItems} × ${typeOf(schema.items)}`
    : (TYPES[schema.type ?? ''] ?? schema.type)
  return [type, ...limits.filter(Boolean)].join(' ')
}

/** `dataset.batch_size | integer ≥ 1 ≤ 4096 | 4`, for every field that is no object. */
function rows(schema: Schema, prefix = ''): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    if (field.properties) return rows(field, `${prefix}${name}.`)
    const fallback = schema.required?.includes(name) && field.default === undefined ? 'required' : 'none'
    const value = field.default === undefined ? fallback : JSON.stringify(field.default)
    return [`${prefix}${name} | ${typeOf(field)} | ${value}`]
  })
}

test('docs/training.md has every parameter as the contract has it', () => {
  const text = readFileSync(fileURLToPath(new URL('../docs/training.md', import.meta.url)), 'utf8')
  const documented = [...text.matchAll(/^\| `([\w.]+)` \| (.+?) \| (.+?) \| (.+) \|$/gm)]
  const told = documented.map(([, name, type, value]) => `${name} | ${type} | ${value?.replaceAll('`', '')}`)
  expect(told.sort()).toEqual(rows(StartRequest as Schema).sort())
  for (const [, name, , , meaning] of documented) expect(meaning?.length, name).toBeGreaterThan(20)
})

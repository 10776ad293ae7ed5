import { StartRequest } from '@mlx-training/contract'
import { expect, test } from 'vitest'
import { ELSEWHERE, GROUPS } from '../src/pages/new-run/fields.ts'

interface Schema {
  properties?: Record<string, Schema>
}

const leaves = ({ properties = {} }: Schema, prefix = ''): string[] =>
  Object.entries(properties).flatMap(([name, schema]) =>
    schema.properties ? leaves(schema, `${prefix}${name}.`) : [prefix + name],
  )

test('every field of a start has one place in the form', () => {
  const placed = [...ELSEWHERE, ...GROUPS.flatMap(({ fields }) => fields.map(({ path }) => path))]
  expect([...placed].sort()).toEqual(leaves(StartRequest as object).sort())
})

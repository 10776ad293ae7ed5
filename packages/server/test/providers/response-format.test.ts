import { ServiceError } from '@mlx-training/contract'
import { expect, test } from 'vitest'
import { responseFormat } from '../../src/providers/response-format.ts'

const schema = { type: 'object', properties: { port: { type: 'integer' } } }

function nested(depth: number): Record<string, unknown> {
  let value: Record<string, unknown> = {}
  for (let i = 0; i < depth; i++) value = { items: value }
  return value
}

test('a form of the answer is what was asked for, and text asks for nothing', () => {
  expect(responseFormat(undefined)).toBeUndefined()
  expect(responseFormat({ type: 'text' })).toBeUndefined()
  expect(responseFormat({ type: 'json_object' })).toEqual({ type: 'json_object' })
  const asked = { type: 'json_schema' as const, json_schema: { name: 'x', schema, strict: true } }
  expect(responseFormat(asked)).toEqual(asked)
  expect(responseFormat({ type: 'json_schema', json_schema: { schema: nested(60) } })).toBeDefined()
})

test.each([
  ['none', undefined, 'response_format.json_schema', 'is needed'],
  ['nested too deep', { schema: nested(100_000) }, 'response_format.json_schema.schema', 'deeper than 64 levels'],
  ['too large', { schema: { title: 'x'.repeat(70_000) } }, 'response_format.json_schema.schema', 'the limit is 65536'],
])('a schema that is refused: %s', (_, json_schema, field, said) => {
  try {
    responseFormat({ type: 'json_schema', ...(json_schema && { json_schema }) })
    expect.fail('it was taken')
  } catch (error) {
    expect(error).toBeInstanceOf(ServiceError)
    expect(error).toMatchObject({ code: 'invalid_parameters', errors: [{ field }] })
    expect((error as ServiceError).message).toContain(`${field}: `)
    expect((error as ServiceError).message).toContain(said)
  }
})

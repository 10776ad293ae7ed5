import { expect, test } from 'vitest'
import { forcedFormat, type Tool } from '../../src/openai/forced-call.ts'
import { WholeCallReader } from '../../src/openai/tool-calls.ts'

const tool = (name: string, parameters?: object) => ({
  type: 'function',
  function: { name, ...(parameters && { parameters }) },
})
const city = { type: 'string' }
const a = tool('a', { $schema: 'draft', properties: { to: { $ref: '#/$defs/city' } }, $defs: { city } })
const b = tool('b', { properties: { from: { $ref: '#/$defs/city' } }, $defs: { city } })

const schemaOf = (choice: unknown, tools: Tool[]) =>
  forcedFormat(choice as never, tools)?.json_schema?.schema as { anyOf: { properties: { arguments: unknown } }[] }

test('nothing is forced unless asked for', () => {
  for (const choice of [undefined, null, 'auto', 'none']) expect(forcedFormat(choice, [a])).toBeUndefined()
})

test('each tool is an alternative, with its own arguments and what all refer to at the root', () => {
  expect(schemaOf('required', [a, b])).toEqual({
    $defs: { city },
    anyOf: [
      ['a', { type: 'object', properties: { to: { $ref: '#/$defs/city' } } }],
      ['b', { type: 'object', properties: { from: { $ref: '#/$defs/city' } } }],
    ].map(([name, given]) => ({
      type: 'object',
      properties: { name: { const: name }, arguments: given },
      required: ['name', 'arguments'],
      additionalProperties: false,
    })),
  })
  const none = schemaOf({ type: 'function', function: { name: 'c' } }, [a, tool('c')])
  expect(none.anyOf.map(({ properties }) => properties.arguments)).toEqual([
    { type: 'object', properties: {}, additionalProperties: false },
  ])
})

test.each([
  [
    'other definitions of one name',
    [a, tool('b', { $defs: { city: { type: 'number' } } })],
    'define "city" in $defs in two ways',
  ],
  ['a reference to elsewhere', [tool('b', { properties: { x: { $ref: '#/properties/y' } } })], 'a $ref can only name'],
  ['too much', [tool('b', { properties: { x: { enum: ['y'.repeat(70_000)] } } })], 'the limit is 65536'],
])('refuses %s in words of the tools', (_, tools, words) => {
  expect(() => forcedFormat('required', tools as Tool[])).toThrow(
    expect.objectContaining({
      message: expect.stringContaining(words),
      errors: [expect.objectContaining({ field: 'tools' })],
    }),
  )
})

test('the answer is one call, over several lines too; one that was cut short is text', () => {
  const read = (...pieces: string[]) => {
    const reader = new WholeCallReader(['a'])
    for (const piece of pieces) expect(reader.add(piece)).toEqual({ text: '', calls: [] })
    return reader.finish()
  }
  const { text, calls } = read('{\n "name": "a",', '\n "arguments": {"x":\n 1}}')
  expect(text).toBe('')
  expect(calls).toMatchObject([{ type: 'function', function: { name: 'a', arguments: '{"x":1}' } }])
  expect(read('{"name": "a", "arg')).toEqual({ text: '{"name": "a", "arg', calls: [] })
})

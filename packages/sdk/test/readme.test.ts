import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { MlxTraining } from '../src/client.ts'
import * as errors from '../src/errors.ts'

const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const client = new MlxTraining()

const methodsOf = (value: object) =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(value)).filter((name) => name !== 'constructor')

test.each(['train', 'datasets', 'evaluations', 'keys'] as const)(
  'the README names the methods of client.%s',
  (part) => {
    const [, named = ''] = new RegExp(`^- .client\\.${part}.: ([\\s\\S]*?)\\.(?: |\\n)`, 'm').exec(text) ?? []
    expect([...named.matchAll(/`(\w+)`/g)].map(([, name]) => name).sort()).toEqual(methodsOf(client[part]).sort())
  },
)

test('and those of the client itself, and the errors', () => {
  const called = [...text.matchAll(/`client\.(\w+)(?:\.stream)?\(/g)].map(([, name]) => name)
  expect([...new Set(called)].sort()).toEqual([...methodsOf(client), 'generate'].sort())
  for (const name of Object.keys(errors).filter((name) => /Error$/.test(name) && name !== 'MlxTrainingError'))
    expect(text).toContain(`\`${name}\``)
})

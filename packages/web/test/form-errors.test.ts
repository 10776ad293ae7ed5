import { expect, test } from 'vitest'
import { atFields } from '../src/pages/new-run/errors.ts'

const FIELDS = new Set(['tags', 'epochs', 'lora.lora_target_modules'])
const told = (...errors: { field: string; message: string; given?: unknown }[]) =>
  atFields(errors, (path) => FIELDS.has(path))

test('each is told at its field, the first of several', () => {
  expect(told({ field: 'epochs', message: 'a' }, { field: 'epochs', message: 'b' })).toEqual({ epochs: 'a' })
})

test('those of items at their list, each with what it is about', () => {
  const found = told(
    { field: 'tags.1', message: 'is long', given: 'x'.repeat(30) },
    { field: 'tags.2', message: 'is empty', given: '' },
    { field: 'lora.lora_target_modules.0', message: 'is none', given: 'v_porj' },
  )
  expect(found).toEqual({
    tags: `“${'x'.repeat(24)}…” is long; Line 3 is empty`,
    'lora.lora_target_modules': '“v_porj” is none',
  })
})

test('what belongs to no field, and items of what is none, is told as it is', () => {
  expect(told({ field: 'body', message: 'is empty' })).toEqual({ '': 'is empty' })
  expect(told({ field: 'webhooks.0', message: 'is wrong' })).toEqual({ '': 'is wrong' })
})

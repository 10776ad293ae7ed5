import fc from 'fast-check'
import { expect, it } from 'vitest'
import { redact } from '../../src/providers/redact.ts'

const word = (min: number, max: number) =>
  fc.string({ unit: fc.constantFrom(...'abcXYZ0123456789-_'), minLength: min, maxLength: max })

it('leaves no eight characters of a key, wherever and however often they stand', () => {
  fc.assert(
    fc.property(
      word(8, 64),
      fc.array(fc.tuple(fc.string(), fc.nat(60), fc.nat(64)), { maxLength: 5 }),
      (key, parts) => {
        const text = parts.map(([before, at, length]) => before + key.slice(at, at + length)).join(' ')
        const clean = redact(text, key).replaceAll('[key]', '\n')
        for (let at = 0; at + 8 <= key.length; at++) expect(clean).not.toContain(key.slice(at, at + 8))
        expect(clean.length).toBeLessThanOrEqual(300)
      },
    ),
  )
})

it.each([
  ['Incorrect key sk-proj-***********1234. See there', 'Incorrect key [key]. See there'],
  ['key ab12****cd34 is off', 'key [key] is off'],
  ['Authorization: Bearer abc.def', 'Authorization: Bearer [key]'],
  ['your key ending in "wxyz", which expired', 'your key ending in [key], which expired'],
  ['two\nlines\u0000 and\tmore', 'two lines and more'],
])('%j', (text, clean) => expect(redact(text, null)).toBe(clean))

it('leaves other words alone', () => {
  const text = "This model's maximum context length is 16385 tokens, however you requested 18012."
  expect(redact(text, 'sk-proj-abcdefghijklmnop')).toBe(text)
  expect(redact('x'.repeat(400), null)).toHaveLength(300)
})

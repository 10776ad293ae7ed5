import { expect, test } from 'vitest'
import { endOf } from '../src/commands/keys.ts'

const NOW = Date.parse('2026-01-31T10:00:00Z')

test.each([
  ['30d', '2026-03-02T10:00:00.000Z'],
  ['12h', '2026-01-31T22:00:00.000Z'],
  ['2027-01-31', '2027-01-31T00:00:00.000Z'],
  ['2027-01-31T12:00:00+02:00', '2027-01-31T10:00:00.000Z'],
])('--expires %s is %s', (text, end) => {
  expect(endOf(text, NOW)).toBe(end)
})

test.each(['soon', '', '3w', '99999999d'])('--expires "%s" is refused, with what to write', (text) => {
  expect(() => endOf(text, NOW)).toThrow(/write 30d, 12h, or a date/)
})

/** Rows with nothing to tell are read in their bytes: the report must be the one that JSON.parse and the formats make. */
import fc from 'fast-check'
import { expect, it, vi } from 'vitest'
import { GOLDEN } from './golden.ts'
import { alpacaRows, check, lines } from './helpers.ts'
import { GOOD_FILES, mutated } from './mutations.ts'

/** Whoever wants the rows themselves gets them the long way. */
const inFull = (file: Buffer | string, options: Parameters<typeof check>[1] = {}) =>
  check(file, { ...options, onGood: () => {} })

const word = fc.constantFrom(
  ...[
    'tide',
    'The',
    'harbour',
    'naïve',
    'Ünter',
    'кот',
    '猫',
    'ひ',
    '😀',
    '\ufffd',
    'Ã©',
    '\u00a0',
    '\u3000',
    '\u2003',
  ],
  ...[
    '',
    ' ',
    '\n',
    '\t',
    '"',
    '\\',
    '/',
    '\u0001',
    '\u007f',
    '\ud800',
    'a@b.org',
    '4111 1111 1111 1111',
    '212-555-0100',
  ],
  ...['sk-abcdefghijklmnopqrstuvwx1', 'x'.repeat(40), '0123456789', '[]', '[{"name":"f"}]', 'human', '}', '{"a":1}'],
)
const text = fc
  .tuple(fc.array(word, { maxLength: 9 }), fc.constantFrom(' ', '', '  '), fc.constantFrom(1, 1, 1, 1, 1, 1, 1, 1, 40))
  .map(([words, between, times]) => words.join(between).repeat(times))
const plainText = fc.constantFrom(
  'Name three old harbours',
  'It is far away.',
  'name three  old harbours',
  'Was früher war?',
)
const value = fc.oneof(
  { weight: 6, arbitrary: plainText },
  { weight: 6, arbitrary: text },
  fc.constantFrom(null, 7, [], {}, ''),
)
const role = fc.constantFrom('human', 'gpt', 'user', 'assistant', 'system', 'tool', 'observation', 'GPT', 'humn')
const turn = fc.oneof(
  { weight: 5, arbitrary: fc.record({ from: role, value }) },
  { weight: 3, arbitrary: fc.record({ role, content: value }) },
  fc.record({ value, from: role, weight: fc.constantFrom(0, 1) }),
  fc.record({ from: role, value, role, name: value }, { requiredKeys: [] }),
)
const talk = fc.oneof(
  fc.array(turn, { maxLength: 4 }),
  fc.array(plainText, { minLength: 1, maxLength: 3 }).map((texts) =>
    texts.flatMap((each) => [
      { from: 'human', value: `${each}?` },
      { from: 'gpt', value: each },
    ]),
  ),
)
const row = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record(
      { instruction: value, input: value, output: value, system: value },
      { requiredKeys: ['instruction', 'output'] },
    ),
  },
  {
    weight: 4,
    arbitrary: fc.record({ conversations: talk, system: value, tools: value }, { requiredKeys: ['conversations'] }),
  },
  { weight: 2, arbitrary: fc.record({ tools: value, messages: talk }, { requiredKeys: ['messages'] }) },
  fc.record({ prompt: value, completion: value }),
  fc.record({ text: value }),
  fc.record(
    { instruction: value, output: value, messages: talk, prompt: value, tools: value, history: value, id: value },
    { requiredKeys: [] },
  ),
)

/** JSON in one of the ways in which it may be written: blanks, escapes, the last key once more. */
function written(
  value: unknown,
  { blank, escapes, twice }: { blank: string; escapes: number; twice: boolean },
): string {
  const json = (each: unknown): string => {
    if (typeof each === 'string')
      return `"${[...each].map((sign, i) => escaped(sign, (i + escapes) % 5 === 0 && escapes > 0)).join('')}"`
    if (Array.isArray(each)) return `[${blank}${each.map(json).join(`${blank},${blank}`)}${blank}]`
    if (typeof each !== 'object' || each === null) return JSON.stringify(each)
    const pairs = Object.entries(each).map(([key, inner]) => `"${key}"${blank}:${blank}${json(inner)}`)
    if (twice && pairs.length > 0) pairs.push(pairs[0] as string)
    return `{${blank}${pairs.join(`${blank},${blank}`)}${blank}}`
  }
  return json(value)
}
function escaped(sign: string, asNumber: boolean): string {
  if (!asNumber) return JSON.stringify(sign).slice(1, -1).replace('/', '\\/')
  const units = Array.from({ length: sign.length }, (_, i) => sign.charCodeAt(i).toString(16).padStart(4, '0'))
  return units.map((unit) => `\\u${unit.charCodeAt(3) % 2 ? unit : unit.toUpperCase()}`).join('')
}
const style = (blanks: string[]) =>
  fc.record({
    blank: fc.constantFrom(...blanks),
    escapes: fc.constantFrom(0, 0, 1, 2),
    twice: fc.constantFrom(false, false, false, true),
  })
const good = JSON.stringify(alpacaRows(1)[0])

it('a row says the same in its bytes as in full, in JSON Lines', () => {
  const each = fc.tuple(row, style(['', ' ', '\t', '\r', '\n']), fc.constantFrom('\n', ' \r\n', ',\n', '\n\n', ''))
  fc.assert(
    fc.property(fc.array(each, { minLength: 1, maxLength: 5 }), fc.integer({ min: 16, max: 600 }), (rows, size) => {
      const file = `${good}\n${rows.map(([value, how, end]) => written(value, how) + end).join('')}`
      const report = inFull(file)
      expect(check(file)).toEqual(report)
      expect(check(file, {}, [size])).toEqual(report)
    }),
    { numRuns: 120 },
  )
}, 120_000)

it('a row says the same in its bytes as in full, in an array', () => {
  const each = fc.tuple(row, style(['', ' ', '\n  ', '\r\n']))
  fc.assert(
    fc.property(fc.array(each, { minLength: 1, maxLength: 5 }), fc.integer({ min: 16, max: 600 }), (rows, size) => {
      const file = `[${good},${rows.map(([value, how]) => written(value, how)).join('\n,')}]`
      const report = inFull(file)
      expect(check(file)).toEqual(report)
      expect(check(file, {}, [size])).toEqual(report)
    }),
    { numRuns: 120 },
  )
}, 120_000)

it('damaged files say the same, too', () => {
  fc.assert(
    fc.property(mutated, (file) => {
      expect(check(file)).toEqual(inFull(file))
    }),
    { numRuns: 300 },
  )
  for (const { file, options } of GOLDEN) expect(check(file, options)).toEqual(inFull(file, options))
}, 120_000)

it('JSON.parse sees the first row of good ones only', () => {
  for (const file of [GOOD_FILES[0], GOOD_FILES[1], lines(...alpacaRows(100))]) {
    const parse = vi.spyOn(JSON, 'parse')
    const { total_samples } = check(file as Buffer)
    expect(total_samples).toBeGreaterThan(11)
    expect(parse).toHaveBeenCalledTimes(1)
    parse.mockRestore()
  }
})

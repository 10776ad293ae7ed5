import { describe, expect, it } from 'vitest'
import { CODES, type Code } from '../../src/datasets/codes.ts'
import { GOLDEN, good, words } from './golden.ts'
import { alpacaRows, check, lines, turn } from './helpers.ts'

describe('every check', () => {
  it.each(GOLDEN)('$code: $says', ({ code, says, file, field, options }) => {
    const report = check(file, options)
    const listed = CODES[code] === 'error' ? report.errors : report.warnings
    if (typeof says === 'string') expect(listed).toContain(says)
    else expect(listed).toContainEqual(expect.stringMatching(says))
    expect(report.valid).toBe(report.errors.length === 0)
    expect(report.counts[code]).toBeGreaterThan(0)
    const issue = report.issues.find((each) => each.code === code)
    expect(issue?.field).toBe(field ?? issue?.field)
  })

  it('has a golden case, or one in snapshot, containers or leakage.test.ts', () => {
    const covered = new Set(GOLDEN.map(({ code }) => code))
    const elsewhere = [
      'file_changed',
      'bad_gzip',
      'expands_too_far',
      'no_header',
      'bad_csv',
      'ragged_row',
      'bad_parquet',
      'unsupported_parquet',
      'leaked_row',
      'leaked_question',
    ]
    expect(Object.keys(CODES).filter((code) => !covered.has(code as Code))).toEqual(elsewhere)
  })
})

describe('what is not found fault with', () => {
  it.each([
    ['an instruction of three words', lines(...alpacaRows(10), { instruction: 'Name three colours', output: 'Red.' })],
    ['an output of 1000 words', lines(...alpacaRows(10), { ...good, output: words(1000) })],
    ['null for what may be left out', lines(...alpacaRows(10), { ...good, input: null, system: null, history: null })],
    [
      'accents, signs and emoji',
      lines(...alpacaRows(10), { ...good, output: 'SÃO, Âme, â la carte, 20 °C, “so” 🚗\tok\r\n' }),
    ],
    [
      'a Chinese instruction without blanks',
      lines(...alpacaRows(10), { instruction: '什么是机器学习？', output: '机器学习是…' }),
    ],
    ['CRLF and blank lines', lines(...alpacaRows(12)).replaceAll('\n', '\r\n\r\n')],
    [
      'several results of tools',
      lines(
        ...alpacaRows(0),
        ...Array.from({ length: 10 }, (_, i) => ({
          conversations: [
            turn('human', `Ask ${i}`),
            turn('function_call', '{}'),
            turn('observation', '1'),
            turn('observation', '2'),
            turn('gpt', 'Two.'),
          ],
          tools: '',
        })),
      ),
    ],
    [
      'the same conversation with another turn to learn',
      lines(
        ...alpacaRows(0),
        ...Array.from({ length: 10 }, (_, i) => ({
          messages: [0, 1].flatMap((turn) => [
            { role: 'user', content: `Question ${i >> 1}.${turn}` },
            { role: 'assistant', content: 'Yes.', weight: i % 2 === turn ? 1 : 0 },
          ]),
        })),
      ),
    ],
    [
      'the same question with other tools',
      lines(
        ...Array.from({ length: 10 }, (_, i) => ({
          conversations: [turn('human', 'Order a pizza'), turn('gpt', 'I can not.')],
          tools: [{ name: `tool_${i}` }],
        })),
      ),
    ],
  ])('%s', (_, file) => {
    const { valid, errors, warnings, counts } = check(file)
    expect({ valid, errors, warnings, counts }).toEqual({ valid: true, errors: [], warnings: [], counts: {} })
  })
})

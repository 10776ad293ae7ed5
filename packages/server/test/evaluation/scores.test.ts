import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { meanScores, normalised, SCORES, scoresOf } from '../../src/evaluation/scores.ts'

interface Golden {
  answer: string
  reference: string
  rouge_1?: number
  rouge_2?: number
  rouge_l?: number
  chrf: number
}

const { rows } = JSON.parse(readFileSync(new URL('scores.json', import.meta.url), 'utf8')) as { rows: Golden[] }
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc
    .array(fc.constantFrom('a', 'b', 'B', 'c', '.', '2e-4', 'é', '我们', ' ', '\n'), { maxLength: 20 })
    .map((all) => all.join(' ')),
)

describe('scores', () => {
  test.each(rows)('of "$answer" are those of rouge-score and sacrebleu', ({ answer, reference, ...expected }) => {
    const found = scoresOf(answer, reference)
    for (const [name, value] of Object.entries(expected))
      expect(found[name as keyof typeof found], name).toBeCloseTo(value, 12)
  })

  test('lie between 0 and 1, are the same from both sides but for chrF, and 1 for the text itself', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        const [found, other] = [scoresOf(a, b), scoresOf(b, a)]
        for (const name of SCORES) {
          expect(found[name]).toBeGreaterThanOrEqual(0)
          expect(found[name]).toBeLessThanOrEqual(1 + 1e-12)
          if (name !== 'chrf') expect(found[name]).toBeCloseTo(other[name], 12)
        }
        expect(found.rouge_l).toBeLessThanOrEqual(found.rouge_1 + 1e-12)
        const same = scoresOf(a, a)
        expect(same.exact_match).toBe(1)
        if (/[a-z]/i.test(a)) expect([same.rouge_1, same.rouge_l, same.chrf]).toEqual([1, 1, expect.closeTo(1, 12)])
      }),
    )
  })

  test('know words of scripts that rouge-score does not', () => {
    expect(scoresOf('我们去公园', '我们今天去公园').rouge_1).toBeCloseTo((2 * 5) / 12)
    expect(scoresOf('мы идём', 'Мы идём.').rouge_l).toBe(1)
    expect(scoresOf('ไป', 'ไป').rouge_1).toBe(1)
  })

  test('match exactly whatever the case, the form and what stands around', () => {
    expect(normalised('  "Port\n 8200."')).toBe('port 8200')
    expect(scoresOf('The rate is 2e-4.', 'the rate is  2e-4').exact_match).toBe(1)
    expect(scoresOf('2e4', '2e-4').exact_match).toBe(0)
    expect(scoresOf('é', 'e\u0301').exact_match).toBe(1)
  })

  test('take long texts in no time', () => {
    const long = (seed: number) => Array.from({ length: 100_000 }, (_, i) => `w${(i * seed) % 997}`).join(' ')
    expect(scoresOf(long(3), long(7)).rouge_1).toBeGreaterThan(0.5)
  })

  test('have a mean, unless there are none', () => {
    expect(meanScores([])).toBeNull()
    expect(meanScores([scoresOf('a', 'a'), scoresOf('b', 'a')])?.exact_match).toBe(0.5)
  })
})

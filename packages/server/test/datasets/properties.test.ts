import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FileFault } from '../../src/datasets/split/fault.ts'
import { RowSplitter } from '../../src/datasets/split/rows.ts'
import { alpacaRows, check } from './helpers.ts'
import { GOOD_FILES, mutated } from './mutations.ts'

const blanks = (newlines: boolean) =>
  fc.string({ unit: fc.constantFrom(...(newlines ? [' ', '\t', '\r', '\n'] : [' ', '\t'])), maxLength: 4 })
const text = fc.string({ unit: 'grapheme', maxLength: 30 })
const row = fc.oneof(
  fc.record({ instruction: text, input: text, output: text }),
  fc.record({
    conversations: fc.array(fc.record({ from: fc.constantFrom('human', 'gpt'), value: text }), { maxLength: 4 }),
  }),
  fc.dictionary(text, fc.jsonValue()),
)
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 })

/** Rows as the splitter finds them: parsed, with the line that each starts on. */
function split(file: string, chunkSizes: number[]): { value: unknown; line: number }[] {
  const splitter = new RowSplitter()
  const found: { value: unknown; line: number }[] = []
  const onRow = ({ bytes, line }: { bytes: Buffer | null; line: number }) => {
    found.push({ value: JSON.parse(String(bytes)), line })
  }
  const bytes = Buffer.from(file)
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = chunkSizes[i % chunkSizes.length] as number
    splitter.push(bytes.subarray(at, at + size), onRow)
    at += size
  }
  splitter.end(onRow)
  return found
}

const lineOf = (file: string, offset: number) => file.slice(0, offset).split('\n').length

describe('splitting', () => {
  it('gives back what was written as JSON Lines, whatever the blanks and chunks', () => {
    const written = fc.array(fc.tuple(row, blanks(false), fc.constantFrom('\n', '\r\n', '\n\n', '\n \n')), {
      minLength: 1,
      maxLength: 8,
    })
    fc.assert(
      fc.property(written, fc.boolean(), fc.boolean(), sizes, (rows, mark, endsOpen, chunkSizes) => {
        let file = mark ? '\ufeff' : ''
        const expected = rows.map(([value, blank, end]) => {
          const line = lineOf(file, file.length)
          file += blank + JSON.stringify(value) + blank + end
          return { value: JSON.parse(JSON.stringify(value)), line }
        })
        if (endsOpen) file = file.trimEnd()
        expect(split(file, chunkSizes)).toEqual(expected)
      }),
      { numRuns: 300 },
    )
  })

  it('gives back what was written as an array, whatever the blanks and chunks', () => {
    const written = fc.array(
      fc.tuple(fc.oneof(row, fc.jsonValue()), blanks(true), blanks(true), fc.constantFrom(0, 1, 2)),
      { maxLength: 8 },
    )
    fc.assert(
      fc.property(written, blanks(true), sizes, (rows, around, chunkSizes) => {
        let file = `${around}[`
        const expected = rows.map(([value, before, after, indent], i) => {
          file += (i > 0 ? ',' : '') + before
          const line = lineOf(file, file.length)
          file += JSON.stringify(value, null, indent) + after
          return { value: JSON.parse(JSON.stringify(value)), line }
        })
        file += `${around}]${around}`
        expect(split(file, chunkSizes)).toEqual(expected)
      }),
      { numRuns: 300 },
    )
  })

  it('tells a cut array from a whole one at every byte', () => {
    const file = JSON.stringify(alpacaRows(2), null, 1)
    for (let length = 1; length < file.length; length++)
      expect(() => split(file.slice(0, length), [7])).toThrow(FileFault)
    expect(split(file, [7])).toHaveLength(2)
  })
})

describe('damaged files', () => {
  it('start from good ones', () => {
    for (const file of GOOD_FILES)
      expect(check(file)).toMatchObject({ valid: true, total_samples: 12, valid_samples: 12 })
  })

  it('are never a crash, and never invalid without a reason', () => {
    fc.assert(
      fc.property(mutated, (file) => {
        const report = check(file)
        expect(report.valid).toBe(report.errors.length === 0)
        expect(report.valid || report.issues.length > 0).toBe(true)
        expect(report.valid).toBe(
          report.valid_samples === report.total_samples && report.format !== null && report.errors.length === 0,
        )
        for (const { sample, line } of report.issues) {
          if (sample !== null) expect(sample).toBeLessThan(report.total_samples)
          if (line !== null) expect(line).toBeGreaterThan(0)
        }
      }),
      { numRuns: 1500 },
    )
  })

  it('give the same report whatever the chunk size', () => {
    fc.assert(
      fc.property(mutated, sizes, (file, chunkSizes) => {
        expect(check(file, {}, chunkSizes)).toEqual(check(file))
      }),
      { numRuns: 400 },
    )
  })

  it.each([
    ['a line without end', Buffer.alloc(3_000_000, 'x').fill('{"instruction": "', 0, 17)],
    ['an array element without end', Buffer.alloc(3_000_000, '[')],
    ['a number of 100,000 digits', `[{"instruction": ${'9'.repeat(100_000)}, "output": "x"}]`],
    ['a million brackets', `{"instruction": ${'['.repeat(500_000)}${']'.repeat(500_000)}}`],
    [
      'own __proto__ and constructor keys',
      '{"__proto__": {"instruction": "x"}, "constructor": 1, "hasOwnProperty": 1}',
    ],
  ])('%s', (_, file) => {
    const report = check(file, { maxRowBytes: 2_000_000 }, [65_536])
    expect(report.valid).toBe(false)
    expect(report.errors.length).toBeGreaterThan(0)
    expect(JSON.stringify(report).length).toBeLessThan(5_000)
  })
})

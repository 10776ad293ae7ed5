import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Conversation } from '../../src/datasets/formats/format.ts'
import { convertTo } from '../../src/datasets/library/repairs/convert.ts'
import { check, lines } from './helpers.ts'

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((each) => /\S/.test(each))
const exchange = fc.tuple(text, text)
/** A system text, questions and answers: what every chat format can hold. */
const conversation = fc.record({
  system: fc.option(text, { nil: null }),
  exchanges: fc.array(exchange, { minLength: 1, maxLength: 4 }),
})

const turnsOf = ({ system, exchanges }: { system: string | null; exchanges: [string, string][] }) => [
  ...(system === null ? [] : [{ role: 'system' as const, content: system, field: '' }]),
  ...exchanges.flatMap(([user, assistant]) => [
    { role: 'user' as const, content: user, field: '' },
    { role: 'assistant' as const, content: assistant, field: '' },
  ]),
]

function readBack(row: unknown): Conversation | undefined {
  let read: Conversation | undefined
  const report = check(lines(row), {
    onGood: (each) => {
      read = each
    },
  })
  expect(report.errors).toEqual([])
  return read
}

describe('what is written in a format is read from it again', () => {
  it.each(['alpaca', 'sharegpt', 'openai'] as const)('%s', (format) => {
    fc.assert(
      fc.property(conversation, (said) => {
        const turns = turnsOf(said)
        const patient = { sample: 0, row: {}, examine: () => ({ conversation: { turns }, issues: [] }) }
        const written = convertTo(format)(patient)
        if (written === null || !('row' in written)) throw new Error('nothing was written')
        const read = readBack(written.row)
        expect(read?.turns.map(({ role, content }) => [role, content])).toEqual(
          turns.map(({ role, content }) => [role, content]),
        )
      }),
      { numRuns: 200 },
    )
  })

  it('prompt_completion', () => {
    fc.assert(
      fc.property(exchange, ([prompt, completion]) => {
        expect(readBack({ prompt, completion })?.raw).toEqual({ prompt, completion })
      }),
      { numRuns: 100 },
    )
  })
})

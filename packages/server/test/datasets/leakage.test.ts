import { describe, expect, it } from 'vitest'
import { Pass } from '../../src/datasets/pass.ts'
import { alpacaRows, lines } from './helpers.ts'

/** The reports on a file to train on and on one to hold out. */
function both(train: unknown[], held: unknown[]) {
  const first = new Pass({ size: 0 })
  first.push(Buffer.from(lines(...train)))
  const trained = first.end()
  const second = new Pass({ size: 0, trained: first.duplicates })
  second.push(Buffer.from(lines(...held)))
  return { trained, held: second.end(), leakage: second.duplicates.leakage }
}

describe('rows to hold out', () => {
  it('are looked for among those to train on', () => {
    const [known, asked, ...fresh] = alpacaRows(30).slice(10)
    const held = [
      { ...known, instruction: ` ${known?.instruction.toUpperCase()} ` },
      { ...asked, output: 'Who knows?' },
      ...fresh.slice(10),
    ]
    const found = both(alpacaRows(20), held)
    expect(found.trained).toMatchObject({ valid: true, warnings: [] })
    expect(found.held).toMatchObject({
      valid: true,
      counts: { leaked_row: 1, leaked_question: 1 },
      warnings: [
        'Sample 0: Is trained on, too: it is sample 10 of the training data',
        'Sample 1: Its question is trained on with another answer: sample 11 of the training data',
      ],
    })
    expect(found.leakage).toEqual({ rows: 1, questions: 1 })
  })

  it('are not compared by a question that is not there', () => {
    const texts = (from: number) => Array.from({ length: 10 }, (_, i) => ({ text: `Text ${from + i}` }))
    expect(both(texts(0), texts(10)).held.counts).toEqual({})
    expect(both(texts(0), texts(5)).leakage).toEqual({ rows: 5, questions: 0 })
  })
})

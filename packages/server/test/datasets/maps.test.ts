import { describe, expect, it } from 'vitest'
import type { PassOptions } from '../../src/datasets/pass.ts'
import { check, lines } from './helpers.ts'

/** The rows as they would be trained on, and the report. */
function read(rows: unknown[], options: Omit<PassOptions, 'size'>) {
  const found: unknown[] = []
  const onGood: PassOptions['onGood'] = ({ turns, tools, raw }) =>
    found.push(raw ?? { turns: turns.map(({ role, content }) => [role, content]), ...(tools && { tools }) })
  return { report: check(lines(...rows), { ...options, onGood }), found }
}

describe("the file's own names", () => {
  it('of columns, as Alpaca has them', () => {
    const row = {
      question: 'What is it?',
      context: 'A cat.',
      answer: 'A cat.',
      role: 'Be brief.',
      before: [['a', 'b']],
    }
    const columns = { prompt: 'question', query: 'context', response: 'answer', system: 'role', history: 'before' }
    const { report, found } = read([row], { columns })
    expect(report).toMatchObject({ valid: true, format: 'alpaca', counts: { few_rows: 1 } })
    expect(report.detection).toBe('1 of 1 rows have question and answer; the file is JSON Lines')
    expect(report.sample_preview).toEqual({
      question: 'What is it?',
      answer: 'A cat.',
      context: 'A cat.',
      role: 'Be brief.',
    })
    expect(found).toEqual([
      {
        turns: [
          ['system', 'Be brief.'],
          ['user', 'a'],
          ['assistant', 'b'],
          ['user', 'What is it?\n\nA cat.'],
          ['assistant', 'A cat.'],
        ],
      },
    ])
  })

  it('of turns, their keys and their roles', () => {
    const tags = {
      role_tag: 'speaker',
      content_tag: 'said',
      user_tag: 'Kunde',
      assistant_tag: 'Berater',
      function_tag: 'Aufruf',
      observation_tag: 'Ergebnis',
      system_tag: 'Vorgabe',
    }
    const said = (speaker: string) => ({ speaker, said: `I am ${speaker}` })
    const row = { dialog: ['Vorgabe', 'Kunde', 'Aufruf', 'Ergebnis', 'Berater'].map(said), funcs: [{ name: 'f' }] }
    const { report, found } = read([row], { columns: { messages: 'dialog', tools: 'funcs' }, tags })
    expect(report).toMatchObject({ valid: true, format: 'sharegpt', counts: { few_rows: 1 } })
    expect(found).toMatchObject([
      {
        turns: [['system'], ['user'], ['assistant'], ['tool'], ['assistant']].map(([role]) => [
          role,
          expect.any(String),
        ]),
        tools: [{ name: 'f' }],
      },
    ])
  })

  it('of plain text', () => {
    const pair = { columns: { prompt: 'head', response: 'tail' }, asked: 'prompt_completion' as const }
    expect(read([{ head: 'Once', tail: ' upon' }], pair).found).toEqual([{ prompt: 'Once', completion: ' upon' }])
    const text = { columns: { prompt: 'body' }, asked: 'text' as const }
    expect(read([{ body: 'Once upon' }], text).found).toEqual([{ prompt: '', completion: 'Once upon' }])
  })

  it('take the place of the usual ones, and a miss says so', () => {
    const { report } = read([{ instruction: 'Name a colour.', output: 'Red.' }], {
      columns: { prompt: 'q', response: 'a' },
    })
    expect(report.errors).toEqual([
      'Sample 0 (line 1): The row has keys instruction, output; with these names a row needs q and a',
    ])
  })

  it('of system and tools alone leave the format to be detected', () => {
    const rows = [
      {
        messages: [
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: 'Hey' },
        ],
        sys: 'Be kind.',
      },
    ]
    const { report, found } = read(rows, { columns: { system: 'sys' } })
    expect(report).toMatchObject({ valid: true, format: 'openai' })
    expect(found).toMatchObject([
      {
        turns: [
          ['system', 'Be kind.'],
          ['user', 'Hi'],
          ['assistant', 'Hey'],
        ],
      },
    ])
  })
})

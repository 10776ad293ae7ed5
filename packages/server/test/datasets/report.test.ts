import { describe, expect, it } from 'vitest'
import { good, talk } from './golden.ts'
import { alpacaRows, check, lines, turn } from './helpers.ts'

describe('the report', () => {
  it('lists 100 findings, ten of a code in detail, and counts all', () => {
    const report = check(lines(...Array.from({ length: 512 }, () => ({ instruction: 'Why?' }))))
    expect(report.errors).toHaveLength(101)
    expect(report.errors.at(-1)).toBe('… and 412 more')
    expect(report.issues.filter(({ code }) => code === 'missing_key')).toHaveLength(10)
    expect(report.counts).toEqual({ missing_key: 512, short_instruction: 512 })
    expect(report).toMatchObject({ valid: false, total_samples: 512, valid_samples: 0, sample_preview: null })
  })

  it('tells an unknown column once, and what is wrong with the file first', () => {
    const report = check(`[${alpacaRows(300).map((row, id) => JSON.stringify({ ...row, id, output: null }))}`)
    expect(report.counts).toMatchObject({ unknown_key: 300, null_value: 300, truncated_array: 1 })
    expect(report.warnings).toEqual(['Sample 0: Unknown key "id" is ignored'])
    expect(report.errors[0]).toMatch(/^Line 1: The file ends after sample 299/)
  })

  it('previews the first good row in the order of the API reference, long texts cut', () => {
    const report = check(lines({ instruction: 1 }, { output: 'x'.repeat(300), instruction: 'Write many letters.' }))
    expect(Object.entries(report.sample_preview ?? {})).toEqual([
      ['instruction', 'Write many letters.'],
      ['output', `${'x'.repeat(199)}…`],
      ['input', ''],
    ])
    expect(report.detection).toBe('2 of 2 rows have instruction and output; the file is JSON Lines')
  })

  it("previews a conversation's first turns in its own form", () => {
    const turns = ['human', 'gpt', 'human', 'gpt', 'human', 'gpt'].map((from, i) => turn(from, `Turn ${i}`))
    expect(check(talk(...turns)).sample_preview).toEqual({ conversations: turns.slice(0, 4) })
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
    ]
    const openai = check(JSON.stringify([{ messages }]))
    expect(openai).toMatchObject({ format: 'openai', sample_preview: { messages } })
    expect(openai.detection).toBe('1 of 1 rows have messages with role and content; the file is a JSON array')
  })

  it('previews plain text', () => {
    expect(check(lines({ prompt: 'Once', completion: ' upon' }))).toMatchObject({
      format: 'prompt_completion',
      sample_preview: { prompt: 'Once', completion: ' upon' },
    })
    expect(check(lines({ text: 'Once upon' }))).toMatchObject({
      format: 'text',
      valid: true,
      sample_preview: { text: 'Once upon' },
    })
  })

  it('takes messages for ShareGPT when that is asked for, beside conversations as well', () => {
    const messages = {
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello' },
      ],
    }
    const file = lines(messages) + talk(turn('human', 'Hi'), turn('gpt', 'Hey'))
    expect(check(lines(messages), { asked: 'sharegpt' })).toMatchObject({ valid: true, format: 'sharegpt' })
    expect(check(file, { asked: 'sharegpt' })).toMatchObject({ valid: true, format: 'sharegpt' })
    expect(check(file)).toMatchObject({ valid: false, format: null, counts: { mixed_formats: 1 } })
    expect(check(lines(messages), { asked: 'openai' })).toMatchObject({ valid: true, format: 'openai' })
  })

  it('names no format when there is none, or two', () => {
    expect(check(lines({ question: 1 }))).toMatchObject({
      format: null,
      detection: expect.stringMatching(/^No row has the keys/),
    })
    expect(check(lines(good) + talk(turn('human', 'Hi'), turn('gpt', 'Hello'))).format).toBeNull()
  })
})

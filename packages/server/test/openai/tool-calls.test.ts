import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ToolCallReader } from '../../src/openai/tool-calls.ts'

function read(pieces: string[], most?: number): { text: string; calls: string[] } {
  const reader = new ToolCallReader(['a', 'b'], most)
  const parts = [...pieces.map((piece) => reader.add(piece)), reader.finish()]
  return {
    text: parts.map(({ text }) => text).join(''),
    calls: parts.flatMap(({ calls }) => calls.map((call) => `${call.function.name}${call.function.arguments}`)),
  }
}

const A = '{"name": "a", "arguments": {"x": 1}}'
const B = '{"name":"b","parameters":{}}'
const CASES: [answer: string, text: string, calls: string[]][] = [
  ['Plain text, 1 < 2 {x} <tool', 'Plain text, 1 < 2 {x} <tool', []],
  [`<tool_call>\n${A}\n</tool_call>`, '', ['a{"x":1}']],
  [`I look.\n<tool_call>${A}</tool_call>\n<tool_call>${B}</tool_call>\n`, 'I look.', ['a{"x":1}', 'b{}']],
  [`<tool_call>${A}`, '', ['a{"x":1}']],
  [`${A}\n${B}`, '', ['a{"x":1}', 'b{}']],
  [`So:\n${B}\nand then`, 'So:and then', ['b{}']],
  ['{"name": "other", "arguments": {}}', '{"name": "other", "arguments": {}}', []],
  ['<tool_call>no JSON</tool_call> on', '<tool_call>no JSON</tool_call> on', []],
  ['{\n  "any": "object"\n}\n', '{\n  "any": "object"\n}\n', []],
  ['{"name":"a","arguments":"{\\"x\\": 2}"}', '', ['a{"x": 2}']],
]

test.each(CASES)('%j', (answer, text, calls) => {
  expect(read([answer])).toEqual({ text, calls })
})

test('however the answer is cut into pieces', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...CASES),
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      ([answer, text, calls], cuts) => {
        const pieces: string[] = []
        for (let at = 0; at < answer.length; at += pieces.at(-1)?.length ?? 1)
          pieces.push(answer.slice(at, at + (cuts.next().value ?? 1)))
        expect(read(pieces)).toEqual({ text, calls })
      },
    ),
  )
})

test('text that can not become a call is told at once', () => {
  const reader = new ToolCallReader(['a'])
  expect(reader.add('Hello').text).toBe('Hello')
  expect(reader.add(' <b>').text).toBe(' <b>')
  expect(reader.add(' <tool').text).toBe('')
  expect(reader.add('box>').text).toBe(' <toolbox>')
})

test('at most so many calls as asked for, and none that never ends', () => {
  expect(read([`${A}\n${B}`], 1).calls).toEqual(['a{"x":1}'])
  const endless = ['<tool_call>{"name": "a', ...Array.from({ length: 300 }, () => 'x'.repeat(500))]
  expect(read(endless)).toEqual({ text: endless.join(''), calls: [] })
})

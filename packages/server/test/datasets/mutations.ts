/** Good files, and what becomes of them by cuts and insertions. */
import fc from 'fast-check'
import { alpacaRows, lines, turn } from './helpers.ts'

const chat = (i: number) => ({
  conversations: [
    turn('human', `Convert ${i} € to $`),
    turn('function_call', '{"name":"convert"}'),
    turn('observation', `"${i * 2}"`),
    turn('gpt', `It’s ${i * 2} $ ✓`),
  ],
  tools: '[{"name": "convert"}]',
})
export const GOOD_FILES = [
  JSON.stringify(alpacaRows(12), null, 2),
  lines(...alpacaRows(12)),
  JSON.stringify(Array.from({ length: 12 }, (_, i) => chat(i))),
  `\ufeff${lines(...Array.from({ length: 12 }, (_, i) => chat(i))).replaceAll('\n', '\r\n')}`,
].map((file) => Buffer.from(file))

/** Of a file, up to a place. Of numbers between 0 and 1 that a double can hold nearly all are as good as 0. */
export const share = fc.integer({ min: 0, max: 10_000 }).map((parts) => parts / 10_000)

const mutation = fc.record({
  at: share,
  remove: fc.integer({ min: 0, max: 30 }),
  insert: fc.oneof(
    fc.uint8Array({ maxLength: 6 }),
    fc.constantFrom(
      '"',
      '\\',
      '{',
      '}',
      '[',
      ']',
      ',',
      '\n',
      '\0',
      'null',
      '1e999',
      '"__proto__":{}',
      '[[[[[[',
      '\\ud800',
      '9'.repeat(5000),
    ),
  ),
})

/** Cuts and insertions, one after the other; positions are shares of the file. */
function mutate(
  file: Buffer,
  mutations: readonly { at: number; remove: number; insert: string | Uint8Array }[],
): Buffer {
  return mutations.reduce((bytes, { at, remove, insert }) => {
    const from = Math.floor(at * bytes.length)
    return Buffer.concat([bytes.subarray(0, from), Buffer.from(insert as Uint8Array), bytes.subarray(from + remove)])
  }, file)
}

export const mutated = fc
  .tuple(fc.constantFrom(...GOOD_FILES), fc.array(mutation, { minLength: 1, maxLength: 4 }))
  .map(([file, mutations]) => mutate(file, mutations))

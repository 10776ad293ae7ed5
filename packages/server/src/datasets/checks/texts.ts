/** Checks of the text that a context took last. */
import type { RowContext } from '../row-context.ts'

/** Answers longer than this many words are rare on purpose, and are the first to be cut at max_seq_length. */
const MAX_OUTPUT_WORDS = 1000

/** Whether `checkOutput` has nothing to tell. */
export const isUsualOutput = (words: number) => words > 0 && words <= MAX_OUTPUT_WORDS

export function checkOutput(key: string, context: RowContext): void {
  const { words } = context
  if (words === 0) context.find('empty_output', 'Empty output: the model learns to say nothing', context.field(key))
  else if (words > MAX_OUTPUT_WORDS)
    context.find('long_output', () => `Very long output (${words} words)`, context.field(key))
}

export function checkTurn(role: string, key: string, context: RowContext): void {
  if (context.words > 0) return
  const field = context.field(key)
  context.find('empty_turn', `Empty ${role} turn in "${field}"`, field)
}

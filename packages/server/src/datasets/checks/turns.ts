import type { Conversation } from '../formats/format.ts'
import type { RowContext } from '../row-context.ts'
import { countWords } from './words.ts'

/** Answers longer than this many words are rare on purpose, and are the first to be cut at max_seq_length. */
const MAX_OUTPUT_WORDS = 1000
export const BLANK = /^\s*$/

/** Whether there is something to learn, and whether chat templates will take the order of turns. */
export function checkTurns({ turns }: Conversation, context: RowContext): void {
  for (const { role, content, field } of turns) {
    if (role !== 'assistant') {
      // An empty Alpaca instruction is an error of its own.
      if (field !== 'instruction' && BLANK.test(content))
        context.find('empty_turn', `Empty ${role} turn in "${field}"`, field)
    } else if (BLANK.test(content)) context.find('empty_output', 'Empty output: the model learns to say nothing', field)
    else checkLength(content, field, context)
  }

  if (!turns.some((turn) => turn.role === 'assistant')) {
    if (turns.length > 0) context.find('no_assistant_turn', 'No assistant turn: there is nothing to learn from')
    return
  }
  if (turns.every(({ role, train }) => role !== 'assistant' || train === false))
    context.find('no_trained_turn', 'No assistant turn is to be learned: all have train false or weight 0')
  let previous: string | null = null
  for (const [i, { role, field }] of turns.entries()) {
    if (role === 'system') {
      if (i > 0)
        context.find('late_system_turn', 'A system turn that is not the first: many chat templates refuse it', field)
      continue
    }
    if (previous === null && role === 'assistant')
      context.find(
        'starts_with_assistant',
        'Starts with an assistant turn: many chat templates want a user turn first',
        field,
      )
    if (role === 'tool' && previous !== 'assistant' && previous !== 'tool')
      context.find('tool_without_call', 'A tool turn that follows no assistant turn', field)
    else if (role === previous && role !== 'tool')
      context.find('repeated_role', `Two ${role} turns in a row: many chat templates refuse it`, field)
    previous = role
  }
  if (previous !== 'assistant')
    context.find('ends_without_answer', `Ends with a ${previous} turn, which is not trained on`, turns.at(-1)?.field)
}

export function checkLength(output: string, field: string, context: RowContext): void {
  // A word and its blank take two characters at least; most texts need no count.
  const words = output.length > 2 * MAX_OUTPUT_WORDS ? countWords(output) : 0
  if (words > MAX_OUTPUT_WORDS) context.find('long_output', `Very long output (${words} words)`, field)
}

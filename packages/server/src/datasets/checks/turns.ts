import type { Role, Turn } from '../formats/format.ts'
import type { RowContext } from '../row-context.ts'

/** Whether a turn of a role, not the system's, may come after one of another; null is the beginning. */
export function follows(previous: Role | null, role: Role): boolean {
  if (role === 'tool') return previous === 'assistant' || previous === 'tool'
  return previous === null ? role !== 'assistant' : role !== previous
}

/** Whether there is something to learn, and whether chat templates will take the order of turns. */
export function checkTurns(turns: readonly Turn[], context: RowContext): void {
  let answers = 0
  let learned = 0
  let previous: Role | null = null
  for (let i = 0; i < turns.length; i++) {
    const turn = turns[i] as Turn
    const { role } = turn
    if (role === 'assistant') {
      answers++
      if (turn.train !== false) learned++
    }
  }
  if (answers === 0) {
    if (turns.length > 0) context.find('no_assistant_turn', 'No assistant turn: there is nothing to learn from')
    return
  }
  if (learned === 0)
    context.find('no_trained_turn', 'No assistant turn is to be learned: all have train false or weight 0')
  for (let i = 0; i < turns.length; i++) {
    const turn = turns[i] as Turn
    const { role } = turn
    if (role === 'system') {
      if (i > 0)
        context.find(
          'late_system_turn',
          'A system turn that is not the first: many chat templates refuse it',
          turn.field,
        )
      continue
    }
    if (!follows(previous, role)) {
      if (role === 'tool') context.find('tool_without_call', 'A tool turn that follows no assistant turn', turn.field)
      else if (previous === null)
        context.find(
          'starts_with_assistant',
          'Starts with an assistant turn: many chat templates want a user turn first',
          turn.field,
        )
      else context.find('repeated_role', `Two ${role} turns in a row: many chat templates refuse it`, turn.field)
    }
    previous = role
  }
  if (previous !== 'assistant')
    context.find('ends_without_answer', `Ends with a ${previous} turn, which is not trained on`, turns.at(-1)?.field)
}

import type { RowContext } from '../row-context.ts'
import { type JsonObject, typeName } from '../words.ts'
import type { Role } from './format.ts'

/** OpenAI's `weight`, and `train` or Axolotl's `training`, with the values that say yes and no. */
const FLAGS: Readonly<Record<string, readonly [yes: unknown, no: unknown]>> = {
  weight: [1, 0],
  train: [true, false],
  training: [true, false],
}
export const FLAG_KEYS = Object.keys(FLAGS)

/** Whether an assistant turn is learned, which it is unless a flag says no. Turns of others never are. */
export function isTrained(turn: JsonObject, role: Role, context: RowContext): boolean {
  let trained = true
  if (turn.weight === undefined && turn.train === undefined && turn.training === undefined) return true
  for (const [key, [yes, no]] of Object.entries(FLAGS)) {
    const value = turn[key]
    if (value === undefined || value === null) continue
    if (value === no) trained = false
    else if (value !== yes) {
      const given = typeof value === 'number' ? value : typeName(value)
      const field = context.field(key)
      context.find('wrong_type', `"${field}" must be ${no} or ${yes}, not ${given}`, field)
    } else if (role !== 'assistant')
      context.findOnce(
        'flag_ignored',
        `"${key}" of a ${role} turn is ignored: only assistant turns are learned one by one`,
        key,
      )
  }
  return trained
}

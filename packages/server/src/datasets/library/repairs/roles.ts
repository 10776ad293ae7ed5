import type { Role } from '../../formats/format.ts'
import { isObject, type JsonObject } from '../../words.ts'
import type { Repair } from './repair.ts'
import { TURN_LISTS } from './texts.ts'

/** The names that each form of turns uses itself. */
const OWN: Record<'from' | 'role', Record<Role, string>> = {
  from: { system: 'system', user: 'human', assistant: 'gpt', tool: 'observation' },
  role: { system: 'system', user: 'user', assistant: 'assistant', tool: 'tool' },
}
/** An assistant's turn of ShareGPT that says something more by its name. */
const KEPT = new Set(['function_call'])

/** One name for each role: human and gpt in ShareGPT's turns, user and assistant in OpenAI's. */
export const normaliseRoles: Repair = ({ row, examine }) => {
  const list = TURN_LISTS.find((key) => Array.isArray(row[key]))
  if (list === undefined) return null
  const { conversation } = examine()
  const turns = row[list] as unknown[]
  // A system text beside the list became the first turn. Of a row with errors it isn't known which turn is which.
  const before = conversation ? conversation.turns.length - turns.length : 0
  if (!conversation || before < 0) return null
  const renamed: string[] = []
  const changed = turns.map((turn, i) => {
    const role = conversation.turns[i + before]?.role
    if (!isObject(turn) || !role) return turn
    const key = Object.hasOwn(turn, 'role') ? 'role' : 'from'
    const given = turn[key]
    const own = OWN[key][role]
    if (typeof given !== 'string' || given === own || KEPT.has(given)) return turn
    renamed.push(`${given} → ${own}`)
    return { ...turn, [key]: own } satisfies JsonObject
  })
  if (renamed.length === 0) return null
  return { row: { ...row, [list]: changed }, what: `Roles: ${[...new Set(renamed)].join(', ')}` }
}

import type { Role } from '../../formats/format.ts'
import type { ReadOptions } from '../../port.ts'
import { isObject, type JsonObject } from '../../words.ts'
import type { Repair } from './repair.ts'
import { turnListsOf } from './texts.ts'

/** The names that each form of turns uses itself. */
const OWN: Record<'from' | 'role', Record<Role, string>> = {
  from: { system: 'system', user: 'human', assistant: 'gpt', tool: 'observation' },
  role: { system: 'system', user: 'user', assistant: 'assistant', tool: 'tool' },
}
/** One name for each role: human and gpt in ShareGPT's turns, user and assistant in OpenAI's, or what the file was said to
 *  have. */
export function normaliseRoles(reading: ReadOptions): Repair {
  const lists = turnListsOf(reading)
  const { role_tag, system_tag, user_tag, assistant_tag, observation_tag, function_tag } = reading.tags ?? {}
  const given = { system: system_tag, user: user_tag, assistant: assistant_tag, tool: observation_tag }
  /** An assistant's turn that says something more by its name. */
  const kept = function_tag ?? 'function_call'
  return ({ row, examine }) => {
    const list = lists.find((key) => Array.isArray(row[key]))
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
      const usual = Object.hasOwn(turn, 'role') ? 'role' : 'from'
      const key = role_tag ?? usual
      const name = turn[key]
      const own = given[role] ?? OWN[usual][role]
      if (typeof name !== 'string' || name === own || name === kept) return turn
      renamed.push(`${name} → ${own}`)
      return { ...turn, [key]: own } satisfies JsonObject
    })
    if (renamed.length === 0) return null
    return { row: { ...row, [list]: changed }, what: `Roles: ${[...new Set(renamed)].join(', ')}` }
  }
}

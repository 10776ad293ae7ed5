import type { TagMap } from '@mlx-training/contract'
import type { Role } from './format.ts'

const ROLES: readonly [name: string, role: Role][] = [
  ['system', 'system'],
  ['developer', 'system'],
  ['human', 'user'],
  ['user', 'user'],
  ['gpt', 'assistant'],
  ['assistant', 'assistant'],
  ['model', 'assistant'],
  ['chatgpt', 'assistant'],
  ['bot', 'assistant'],
  ['function_call', 'assistant'],
  ['tool_call', 'assistant'],
  ['tool', 'tool'],
  ['observation', 'tool'],
  ['function_response', 'tool'],
  ['function', 'tool'],
]

/** Names of roles, those that the user's tags give first. */
export function rolesOf(tags: TagMap): ReadonlyMap<string, Role> {
  const given: [string | undefined, Role][] = [
    [tags.system_tag, 'system'],
    [tags.user_tag, 'user'],
    [tags.assistant_tag, 'assistant'],
    [tags.function_tag, 'assistant'],
    [tags.observation_tag, 'tool'],
  ]
  const own = given.filter((each): each is [string, Role] => each[0] !== undefined)
  const known = ROLES.filter(([name]) => !own.some(([tag]) => tag === name))
  return new Map([...own, ...known])
}

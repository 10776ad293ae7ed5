import { Hash } from '../../checks/hash.ts'
import { Seen } from '../../checks/seen.ts'
import { CODES, type Code } from '../../codes.ts'
import type { Repair } from './repair.ts'

const EMPTY = new Set<string>([
  'empty_instruction',
  'empty_output',
  'empty_turn',
  'empty_conversation',
] satisfies Code[])

/** Rows with a question, an answer or another turn that says nothing. */
export const dropEmpty: Repair = ({ examine }) => {
  const empty = examine().issues.find(({ code }) => EMPTY.has(code))
  return empty ? { drop: empty.message } : null
}

export const dropInvalid: Repair = ({ examine }) => {
  const error = examine().issues.find(({ code }) => CODES[code as Code] === 'error')
  return error ? { drop: error.message } : null
}

/** Rows that train the same as an earlier one; the first stays. */
export function dropDuplicates(): Repair {
  const seen = new Seen()
  return ({ sample, examine }) => {
    const { conversation } = examine()
    if (!conversation) return null
    const hash = new Hash()
    if (conversation.tools) hash.add(JSON.stringify(conversation.tools))
    for (const { role, content, train } of conversation.turns) hash.add(train === false ? 'shown' : role).add(content)
    if (conversation.raw) hash.add(conversation.raw.prompt).add(conversation.raw.completion)
    const first = seen.firstOf(...hash.end(), sample)
    return first === null ? null : { drop: `Same as sample ${first}` }
  }
}

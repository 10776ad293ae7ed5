import { createHash } from 'node:crypto'
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

/** Rows that train the same as an earlier one, by 64 bits of a hash; the first stays. */
export function dropDuplicates(): Repair {
  const seen = new Seen()
  return ({ sample, examine }) => {
    const { conversation } = examine()
    if (!conversation) return null
    const { turns, tools, raw } = conversation
    const said = [turns.map(({ role, content, train }) => [role, content, train ?? true]), tools ?? null, raw ?? null]
    const digest = createHash('sha1').update(JSON.stringify(said)).digest()
    const first = seen.firstOf(digest.readUInt32LE(0), digest.readUInt32LE(4), sample)
    return first === null ? null : { drop: `Same as sample ${first}` }
  }
}

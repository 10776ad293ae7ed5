/** examine: one row, as the report's pass sees it. */
import type { DatasetIssue } from '@mlx-training/contract'
import type { Conversation } from '../formats/format.ts'
import { Pass } from '../pass.ts'

/** A row by itself: what it becomes (null when it has errors) and what is found in it. */
export interface Examined {
  conversation: Conversation | null
  issues: DatasetIssue[]
}

/** `inArray`: an element of a JSON array, whose syntax is another than that of a line. `line`: where it is, for messages. */
export function examine(bytes: Buffer, sample: number, line: number, inArray = false): Examined {
  let conversation: Conversation | null = null
  const pass = new Pass({
    size: bytes.length,
    onGood: (row) => {
      conversation = row
    },
  })
  // A row stands before it, so that the pass takes it as one of many. Where a row is no JSON the message says on which line
  // and in which column, so that as many line breaks stand before it.
  const breaks = isJson(bytes) ? '' : '\n'.repeat(Math.max(0, line - (inArray ? 1 : 2)))
  pass.push(Buffer.from(inArray ? `[{},${breaks}` : `{}\n${breaks}`))
  pass.push(bytes)
  pass.push(Buffer.from(inArray ? ']' : '\n'))
  const issues = pass.end().issues.filter((issue) => issue.sample === 1)
  return { conversation, issues: issues.map((issue) => ({ ...issue, sample, line, offset: null })) }
}

function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(bytes.toString('utf8'))
    return true
  } catch {
    return false
  }
}

/** Rows of a data set's snapshot as questions with the answers that they hold. */
import { createReadStream } from 'node:fs'
import type { ChatMessage, SnapshotRow } from '@mlx-training/contract'
import { lines } from '../engine/frames.ts'

/** A row is 16 MiB at most as it was given, and may grow by what must be escaped. */
const MOST_BYTES = 256 << 20

export interface HeldRow {
  sample: number
  /** null: there is nothing to ask, as in plain text. */
  question: { messages: ChatMessage[] } | { prompt: string } | null
  /** What is asked, for people to read. */
  prompt: string
  reference: string
}

/** Those of these numbers that are there, by number. */
export async function readRows(path: string, samples: ReadonlySet<number>): Promise<Map<number, HeldRow>> {
  const found = new Map<number, HeldRow>()
  const stream = createReadStream(path)
  try {
    for await (const line of lines(stream, MOST_BYTES)) {
      const sample = Number(/^\{"sample":(\d+)/.exec(line)?.[1])
      if (!samples.has(sample)) continue
      found.set(sample, heldRow(JSON.parse(line) as SnapshotRow))
      if (found.size === samples.size) break
    }
  } finally {
    stream.destroy()
  }
  return found
}

/** The last turn of the assistant that is learned is the answer; what comes before it is asked. */
export function heldRow({ sample, messages, raw }: SnapshotRow): HeldRow {
  if (raw)
    return {
      sample,
      question: raw.prompt ? { prompt: raw.prompt } : null,
      prompt: raw.prompt,
      reference: raw.completion,
    }
  const last = messages.findLastIndex(({ role, train }) => role === 'assistant' && train !== false)
  const before = messages.slice(0, Math.max(0, last)).map(({ role, content }) => ({ role, content }) as ChatMessage)
  const asked = before.some(({ role }) => role === 'user')
  return {
    sample,
    question: asked ? { messages: before } : null,
    prompt: before.length === 1 ? (before[0]?.content ?? '') : before.map((m) => `${m.role}: ${m.content}`).join('\n'),
    reference: messages[last]?.content ?? '',
  }
}

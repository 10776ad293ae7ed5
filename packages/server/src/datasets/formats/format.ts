import type { DatasetFormat } from '@mlx-training/contract'
import type { RowContext } from '../row-context.ts'
import type { JsonObject } from '../words.ts'

export type Role = 'system' | 'user' | 'assistant' | 'tool'

export interface Turn {
  role: Role
  content: string
  /** Where it stands in the user's row, for findings. */
  readonly field: string
  /** Of an assistant turn: false is shown but not learned. */
  train?: false
}

/** What every format becomes; all later checks and the snapshot know only this. */
export interface Conversation {
  /** None beside `raw`. */
  turns: Turn[]
  tools?: unknown[]
  alpaca?: { instruction: string; input: string }
  /** Plain text to continue, without a chat template; only the completion is learned. */
  raw?: { prompt: string; completion: string }
}

export interface Format {
  readonly name: DatasetFormat
  /** Completes "rows have …". */
  readonly traits: string
  /** By its keys alone, so that a row with a wrong value is still told what is wrong with it. */
  recognises(row: JsonObject): boolean
  /** Tells the context all that is wrong; null after an error that leaves no conversation. */
  read(row: JsonObject, context: RowContext): Conversation | null
  /** A good row, shortened, in its own form. */
  preview(row: JsonObject): JsonObject
}

export const PREVIEW_CHARACTERS = 200

import type { Conversation } from '../../formats/format.ts'
import type { JsonObject } from '../../words.ts'
import type { Examined } from '../examine.ts'

/** A row on its way through the repairs. */
export interface Patient {
  /** Number in the data set that is cleaned. */
  sample: number
  row: JsonObject
  /** Looks at the row as it now is. */
  examine(): Examined
}

/** What a repair did: nothing (null), a change, or that the row goes; and what to tell of it. */
export type Outcome = null | { row: JsonObject; what: string } | { drop: string }

/** One is made for each run, for some remember earlier rows. */
export type Repair = (patient: Patient) => Outcome

export type Turns = Conversation['turns']

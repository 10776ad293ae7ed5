/** When a message that was not taken is tried again. Pure. */

export interface Schedule {
  /** Milliseconds before the second attempt; each wait is four times the one before, to the longest. */
  first: number
  longest: number
  attempts: number
}

/** 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, then every 4 hours: given up after 22 hours. */
export const SCHEDULE: Schedule = { first: 5000, longest: 4 * 3_600_000, attempts: 12 }

/** Milliseconds after the failed attempt of that number (from 1); null: no more. `random`: 0 to 1, spreads receivers'
 *  retries by a fifth either way, so that they don't come all at once to a receiver that is back. */
export function waitAfter(attempt: number, { first, longest, attempts }: Schedule, random: number): number | null {
  if (attempt >= attempts) return null
  return Math.min(first * 4 ** (attempt - 1), longest) * (0.8 + 0.4 * random)
}

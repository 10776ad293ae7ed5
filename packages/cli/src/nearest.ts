/** What was meant by a word that is none. Commander's own guesses took anything that shares two letters of four: "stop" for "show". */

/** From so many letters on a word says what it may be the beginning of. */
const BEGINNING = 3
/** More slips than one in three letters make another word; more than two make one anywhere. */
const LETTERS_A_SLIP = 3
const SLIPS = 2

/** Those that it begins; else the nearest that a slip or two explain; else none. */
export function nearest(word: string, candidates: readonly string[]): string[] {
  const given = word.toLowerCase()
  const begun = given.length < BEGINNING ? [] : candidates.filter((candidate) => candidate.startsWith(given))
  if (begun.length > 0) return begun
  const near = candidates
    .map((candidate) => ({ candidate, slips: slips(given, candidate) }))
    .filter(
      ({ candidate, slips }) =>
        slips <= Math.min(SLIPS, Math.floor(Math.max(given.length, candidate.length) / LETTERS_A_SLIP)),
    )
  const least = Math.min(...near.map(({ slips }) => slips))
  return near.filter(({ slips }) => slips === least).map(({ candidate }) => candidate)
}

/**
 * Letters put in, left out, replaced, or swapped with the next, at the least: the optimal string alignment distance, as "lsit"
 * is one slip. O(|a|·|b|).
 */
function slips(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (last[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (before[j - 2] as number) + 1 : replaced
      row.push(Math.min(replaced, swapped, (last[j] as number) + 1, (row[j - 1] as number) + 1))
    }
    before = last
    last = row
  }
  return last[b.length] as number
}

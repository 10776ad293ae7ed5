/** The candidate nearest to `wanted` by edit distance (letter case aside), when it is near enough to be a slip; else one
 *  that begins it or that it begins, as `lora_r` does `lora_rank`. */
export function closest(wanted: string, candidates: Iterable<string>): string | null {
  const given = wanted.toLowerCase()
  let begun: string | null = null
  let best: string | null = null
  let bestDistance = Math.max(2, Math.floor(given.length / 4)) + 1
  for (const candidate of candidates) {
    if (isBegun(given, candidate.toLowerCase()) && candidate.length > (begun?.length ?? 0)) begun = candidate
    if (Math.abs(candidate.length - given.length) >= bestDistance) continue
    const distance = editDistance(given, candidate.toLowerCase())
    if (distance < bestDistance && distance < given.length) {
      best = candidate
      bestDistance = distance
    }
  }
  return best ?? begun
}

/** Four letters in common say something; fewer are chance. */
function isBegun(a: string, b: string): boolean {
  return Math.min(a.length, b.length) >= 4 && (a.startsWith(b) || b.startsWith(a))
}

/** Levenshtein's distance: the fewest insertions, deletions and substitutions. O(|a|·|b|). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(substitution, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}

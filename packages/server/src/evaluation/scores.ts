/**
 * Scores of an answer against a reference, each from 0 to 1, for any script.
 *
 * ROUGE: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), F-measure with β = 1, as Google's
 * rouge-score computes it without a stemmer. chrF: Popović (2015), with sacrebleu's defaults (6 characters, β = 2, no words).
 * test/evaluation/scores.json holds what those two packages say. Theirs knows ASCII words alone, ours is Unicode's.
 */
import type { TextScores } from '@mlx-training/contract'

/** Written without spaces between words: each character counts as one. */
const UNSPACED = ['Han', 'Hiragana', 'Katakana', 'Thai', 'Lao', 'Khmer', 'Myanmar']
  .map((script) => `\\p{Script=${script}}`)
  .join('')
const WORD = new RegExp(`[${UNSPACED}]\\p{M}*|(?:(?![${UNSPACED}])[\\p{L}\\p{N}\\p{M}])+`, 'gu')

/** A common subsequence takes the product of both lengths. */
const MOST_WORDS = 2000
const MOST_CHARACTERS = 20_000
const CHRF_ORDER = 6
const CHRF_BETA = 2

export function scoresOf(answer: string, reference: string): TextScores {
  const [said, wanted] = [words(answer), words(reference)]
  return {
    exact_match: normalised(answer) === normalised(reference) ? 1 : 0,
    rouge_1: rougeN(said, wanted, 1),
    rouge_2: rougeN(said, wanted, 2),
    rouge_l: rougeL(said, wanted),
    chrf: chrF(answer, reference),
  }
}

export const SCORES = ['exact_match', 'rouge_1', 'rouge_2', 'rouge_l', 'chrf'] as const satisfies (keyof TextScores)[]

/** The mean of each; null of none. */
export function meanScores(all: readonly TextScores[]): TextScores | null {
  if (all.length === 0) return null
  const mean = (name: keyof TextScores) => all.reduce((sum, one) => sum + one[name], 0) / all.length
  return Object.fromEntries(SCORES.map((name) => [name, mean(name)])) as TextScores
}

/** What an exact match is one of. Punctuation within stays, as "2e-4" is not "2e4". */
export function normalised(text: string): string {
  return text
    .normalize('NFKC')
    .toLowerCase()
    .replaceAll(/\s+/gu, ' ')
    .replace(/^[\s\p{P}]+/u, '')
    .replace(/[\s\p{P}]+$/u, '')
}

export const words = (text: string): string[] => (text.toLowerCase().match(WORD) ?? []).slice(0, MOST_WORDS)

function rougeN(said: readonly string[], wanted: readonly string[], n: number): number {
  return f1(common(grams(said, n, ' '), grams(wanted, n, ' ')), said.length - n + 1, wanted.length - n + 1)
}

function rougeL(said: readonly string[], wanted: readonly string[]): number {
  return f1(longestCommon(said, wanted), said.length, wanted.length)
}

function chrF(answer: string, reference: string): number {
  const [said, wanted] = [characters(answer), characters(reference)]
  let [precision, recall, orders] = [0, 0, 0]
  for (let n = 1; n <= Math.min(CHRF_ORDER, said.length, wanted.length); n++) {
    const hits = common(grams(said, n, ''), grams(wanted, n, ''))
    precision += hits / (said.length - n + 1)
    recall += hits / (wanted.length - n + 1)
    orders++
  }
  return orders === 0 ? 0 : fScore(precision / orders, recall / orders, CHRF_BETA)
}

const characters = (text: string): string[] => [...text.replaceAll(/\s+/gu, '')].slice(0, MOST_CHARACTERS)

function grams(units: readonly string[], n: number, between: string): Map<string, number> {
  const counts = new Map<string, number>()
  for (let i = 0; i + n <= units.length; i++) {
    const gram = units.slice(i, i + n).join(between)
    counts.set(gram, (counts.get(gram) ?? 0) + 1)
  }
  return counts
}

/** Clipped: what is there twice and wanted once is one. */
function common(said: Map<string, number>, wanted: Map<string, number>): number {
  let hits = 0
  for (const [gram, count] of said) hits += Math.min(count, wanted.get(gram) ?? 0)
  return hits
}

function longestCommon(a: readonly string[], b: readonly string[]): number {
  const row = new Uint32Array(b.length + 1)
  for (const word of a) {
    let diagonal = 0
    for (let j = 1; j <= b.length; j++) {
      const above = row[j] as number
      row[j] = word === b[j - 1] ? diagonal + 1 : Math.max(above, row[j - 1] as number)
      diagonal = above
    }
  }
  return row[b.length] as number
}

const f1 = (hits: number, said: number, wanted: number) =>
  said > 0 && wanted > 0 ? fScore(hits / said, hits / wanted, 1) : 0

const fScore = (precision: number, recall: number, beta: number) =>
  precision + recall === 0 ? 0 : ((1 + beta ** 2) * precision * recall) / (beta ** 2 * precision + recall)

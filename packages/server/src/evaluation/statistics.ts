/** How sure a number is. Rows are taken as a sample of those that might have been, and as independent of each other. */
import type { Estimate } from '@mlx-training/contract'

/** Of the normal distribution: 95% lie within so many standard errors. */
const Z = 1.959964

/**
 * Σ amounts / Σ weights: a mean over tokens, of rows that differ in length. Its standard error is that of a ratio
 * estimator by linearisation (Cochran, Sampling Techniques, 1977, 6.4): √(n/(n−1) · Σ(aᵢ − r·wᵢ)²) / Σwᵢ. null of nothing.
 */
export function ratio(amounts: readonly number[], weights: readonly number[]): Estimate | null {
  const n = amounts.length
  const weight = sum(weights)
  if (n === 0 || weight === 0) return null
  const value = sum(amounts) / weight
  if (n === 1) return { value, standard_error: null, interval: null }
  const squares = amounts.reduce((total, amount, i) => total + (amount - value * (weights[i] as number)) ** 2, 0)
  const standard_error = Math.sqrt((n / (n - 1)) * squares) / weight
  return { value, standard_error, interval: [value - Z * standard_error, value + Z * standard_error] }
}

export const mean = (values: readonly number[]): Estimate | null =>
  ratio(
    values,
    values.map(() => 1),
  )

/** Of what is 0 or 1, with Wilson's interval (1927), which holds for few rows and near 0 and 1 as well. */
export function share(values: readonly number[]): Estimate | null {
  const plain = mean(values)
  if (plain === null || plain.interval === null) return plain
  const n = values.length
  const { value } = plain
  const middle = (value + Z ** 2 / (2 * n)) / (1 + Z ** 2 / n)
  const half = (Z / (1 + Z ** 2 / n)) * Math.sqrt((value * (1 - value)) / n + Z ** 2 / (4 * n ** 2))
  return { ...plain, interval: [Math.max(0, middle - half), Math.min(1, middle + half)] }
}

/** How the second of each pair compares with the first, where less is better. */
export function compared(pairs: readonly (readonly [number, number])[]) {
  const better = pairs.filter(([first, second]) => second < first).length
  const worse = pairs.filter(([first, second]) => second > first).length
  return { rows: pairs.length, better, worse, same: pairs.length - better - worse }
}

/** Kahan's: a million rows lose no digit. */
export function sum(values: readonly number[]): number {
  let [total, lost] = [0, 0]
  for (const value of values) {
    const corrected = value - lost
    const next = total + corrected
    lost = next - total - corrected
    total = next
  }
  return total
}

/**
 * Exponential moving average with the bias of its start taken out, as TensorBoard has it: `weight` 0 is none, towards 1 more.
 * What is not there (NaN) stays so and counts for nothing.
 */
export function smooth(values: Float64Array, weight: number): Float64Array {
  if (weight <= 0) return values
  const smoothed = new Float64Array(values.length)
  let mean = 0
  let share = 0
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number
    if (Number.isNaN(value)) {
      smoothed[i] = Number.NaN
      continue
    }
    mean = weight * mean + (1 - weight) * value
    share = weight * share + (1 - weight)
    smoothed[i] = mean / share
  }
  return smoothed
}

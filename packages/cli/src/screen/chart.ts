/** Bars and lines out of block characters. */

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉']
const LEVELS = '▁▂▃▄▅▆▇█'

/** `share` of `width` characters, 0 to 1. */
export function bar(share: number, width: number): string {
  const eighths = Math.round(8 * width * Math.min(1, Math.max(0, share)))
  const full = '█'.repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8]
  return full + '░'.repeat(Math.max(0, width - full.length))
}

/** At most `width` characters: means of neighbours when there are more values, from the lowest of all to the highest. */
export function sparkline(values: readonly number[], width: number): string {
  const finite = values.filter(Number.isFinite)
  if (finite.length === 0 || width < 1) return ''
  const points = resampled(finite, width)
  const low = Math.min(...points)
  const range = Math.max(...points) - low
  return points.map((value) => LEVELS[range === 0 ? 0 : Math.round(((value - low) / range) * 7)]).join('')
}

function resampled(values: readonly number[], width: number): number[] {
  if (values.length <= width) return [...values]
  return Array.from({ length: width }, (_, nth) => {
    const from = Math.floor((nth * values.length) / width)
    const to = Math.max(from + 1, Math.floor(((nth + 1) * values.length) / width))
    const part = values.slice(from, to)
    return part.reduce((sum, value) => sum + value, 0) / part.length
  })
}

/** A line without axes, for a table's cell. `values` are drawn from left to right, null is a gap. */
export function Sparkline({ values, label }: { values: readonly (number | null)[]; label: string }) {
  const known = values.filter((value) => value !== null)
  if (known.length < 2) return <span class="sparkline" />
  const low = Math.min(...known)
  const span = Math.max(...known) - low || 1
  const points = values.map((value, i) => [
    ((i / (values.length - 1)) * (WIDTH - 2) + 1).toFixed(1),
    value === null ? null : (1 + (1 - (value - low) / span) * (HEIGHT - 2)).toFixed(1),
  ])
  let pen = 'M'
  let line = ''
  for (const [x, y] of points) {
    if (y === null) {
      pen = 'M'
      continue
    }
    line += `${pen}${x} ${y}`
    pen = 'L'
  }
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      width={WIDTH}
      height={HEIGHT}
      role="img"
      aria-label={label}
    >
      <path d={line} />
    </svg>
  )
}

const WIDTH = 96
const HEIGHT = 24

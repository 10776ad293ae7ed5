// Tables for people.

const DISTURBED_CORES = 0.1

export function table({ rows, results, ratios, targets }) {
  const lines = results.map((result) => {
    const ratio = ratios[result.name]
    return [
      result.title,
      fixed(result.tokens_per_second, 1),
      fixed(result.trained_tokens_per_second, 1),
      fixed(result.peak_memory_mb / 1000, 2),
      fixed(result.held_out_loss, 3),
      fixed(result.startup_seconds, 1),
      ratio ? `${fixed(ratio.tokens_per_second, 2)} ×` : '',
      ratio ? `${fixed(ratio.peak_memory, 2)} ×` : '',
    ]
  })
  const heads = ['', 'tok/s', 'trained/s', 'peak GB', 'held-out', 'start s', 'ours: speed', 'memory']
  const { train, held_out, base_loss } = rows
  const others = Math.max(...results.map((result) => result.others_cores))
  return [
    columns([heads, ...lines]),
    '',
    `${train.rows} rows, ${train.tokens} tokens without padding, ${train.trained_tokens} with loss; ` +
      `${held_out.rows} rows held out, the base's loss on them is ${fixed(base_loss, 3)}`,
    ...targets.map(({ what, target, found, met }) => `${met ? '✓' : '✗'} ${what}: ${found} × (${target})`),
    ...(others > DISTURBED_CORES
      ? [
          `! Something else kept up to ${fixed(others, 1)} cores busy meanwhile: run this again when the machine is idle.`,
        ]
      : []),
  ].join('\n')
}

/** The first column to the left, the others to the right. */
export function columns(lines) {
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)))
  return lines
    .map((line) => line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '))
    .join('\n')
}

export const fixed = (value, digits) => (value === null || value === undefined ? '–' : value.toFixed(digits))

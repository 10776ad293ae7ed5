/** Bars of a distribution, with the median and the 95th percentile marked. */
import type { Distribution } from '@mlx-training/sdk'
import { useState } from 'preact/hooks'
import { count, number, short } from '../format.ts'

export function Histogram({ title, of, unit }: { title: string; of: Distribution; unit: string }) {
  const [at, setAt] = useState<number | null>(null)
  const { bars = [], min, max, mean, p50, p95 } = of
  const highest = Math.max(1, ...bars.map(({ rows }) => rows))
  const told = `${title}: ${count(min)} to ${count(max)} ${unit} a row, ${number(mean)} on average, ${count(p50)} at the median, at most ${count(p95)} in 95 of 100 rows`
  const bar = at === null ? undefined : bars[at]
  return (
    <figure class="histogram">
      <figcaption>
        <h3>{title}</h3>
        <span class="muted small">
          {bar
            ? `${bar.from === bar.to ? count(bar.from) : `${count(bar.from)} to ${count(bar.to)}`} ${unit}: ${count(bar.rows)} ${bar.rows === 1 ? 'row' : 'rows'}`
            : `median ${count(p50)}, 95% at most ${count(p95)}`}
        </span>
      </figcaption>
      {bars.length > 0 && (
        <div
          class="histogram-bars"
          role="img"
          aria-label={told}
          onMouseLeave={() => setAt(null)}
          onMouseMove={({ target }) => setAt(barAt(target))}
        >
          {bars.map(({ from, rows }, i) => (
            <span key={from} class={i === at ? 'on' : undefined} data-bar={i}>
              <span style={{ height: rows === 0 ? '0' : `max(2px, ${(rows / highest) * 100}%)` }} />
            </span>
          ))}
        </div>
      )}
      <div class="histogram-axis muted small" aria-hidden="true">
        <span>{short(min)}</span>
        <span>{unit}</span>
        <span>{short(max)}</span>
      </div>
    </figure>
  )
}

function barAt(target: EventTarget | null): number | null {
  const bar = target instanceof Element ? target.closest<HTMLElement>('[data-bar]') : null
  return bar ? Number(bar.dataset.bar) : null
}

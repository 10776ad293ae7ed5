/** Shares of a whole, side by side, with a legend that says the same in words. */
import { count, percent } from '../format.ts'

export interface Share {
  label: string
  value: number
  /** Class for its colour: of `.share` in share-bar's styles. */
  tone: string
}

export function ShareBar({ label, shares }: { label: string; shares: readonly Share[] }) {
  const there = shares.filter(({ value }) => value > 0)
  const total = there.reduce((sum, { value }) => sum + value, 0)
  if (total === 0) return null
  const share = (value: number) => (value / total) * 100
  return (
    <div class="shares">
      <div class="shares-bar" aria-hidden="true">
        {there.map(({ label, value, tone }) => (
          <span key={label} class={`share ${tone}`} style={{ width: `${share(value)}%` }} />
        ))}
      </div>
      <ul class="shares-legend" aria-label={label}>
        {there.map(({ label, value, tone }) => (
          <li key={label}>
            <span class={`share-dot share ${tone}`} aria-hidden="true" />
            {label} <strong>{count(value)}</strong>{' '}
            <span class="muted">{percent(share(value), share(value) < 10 ? 1 : 0)}</span>
          </li>
        ))}
      </ul>
    </div>
  )
}

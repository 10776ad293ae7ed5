import type { ComponentChildren } from 'preact'

/** Names and values, one under the other. */
export function Facts({ facts }: { facts: readonly (readonly [name: string, value: ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

/** A number that matters, with its name. */
export function Stat({ label, value, note }: { label: string; value: ComponentChildren; note?: ComponentChildren }) {
  return (
    <div class="stat">
      <span class="stat-label">{label}</span>
      <span class="stat-value">{value}</span>
      {note && <span class="stat-note">{note}</span>}
    </div>
  )
}

export function Card({
  title,
  actions,
  children,
  flush = false,
}: {
  title?: ComponentChildren
  actions?: ComponentChildren
  children: ComponentChildren
  /** Content up to the edges: tables. */
  flush?: boolean
}) {
  return (
    <section class={flush ? 'card flush' : 'card'}>
      {title && (
        <header class="card-head">
          <h2>{title}</h2>
          {actions && <div class="actions">{actions}</div>}
        </header>
      )}
      {children}
    </section>
  )
}

/** 0 to 100; the number is said beside it or by its label. */
export function Progress({ value, label }: { value: number; label: string }) {
  return (
    <progress class="progress" value={value} max={100} aria-label={label}>
      {value}%
    </progress>
  )
}

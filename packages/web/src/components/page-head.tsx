import type { ComponentChildren } from 'preact'

export interface PageHeadProps {
  title: ComponentChildren
  /** A sentence or facts below the title. */
  lead?: ComponentChildren
  /** Buttons on the right. */
  actions?: ComponentChildren
  /** Where it belongs, as a link above the title. */
  back?: { label: string; href: string }
}

export function PageHead({ title, lead, actions, back }: PageHeadProps) {
  return (
    <header class="page-head">
      <div class="page-head-text">
        {back && (
          <a class="back" href={back.href}>
            ← {back.label}
          </a>
        )}
        <h1 tabIndex={-1}>{title}</h1>
        {lead && <div class="lead">{lead}</div>}
      </div>
      {actions && <div class="actions">{actions}</div>}
    </header>
  )
}

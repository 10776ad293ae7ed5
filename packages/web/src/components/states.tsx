/** What is shown instead of content: nothing there yet, loading, failed. */
import { ApiError } from '@mlx-training/sdk'
import type { ComponentChildren } from 'preact'
import { isAway } from '../live/load.ts'
import { Button } from './button.tsx'
import { Icon, type IconName } from './icon.tsx'

export interface EmptyStateProps {
  title: string
  text?: ComponentChildren
  icon?: IconName
  action?: { label: string; href?: string; onClick?: () => void; icon?: IconName } | undefined
  children?: ComponentChildren
}

export function EmptyState({ title, text, icon = 'info', action, children }: EmptyStateProps) {
  return (
    <div class="empty">
      <span class="empty-icon">
        <Icon name={icon} size={28} />
      </span>
      <h2>{title}</h2>
      {text && <p class="muted">{text}</p>}
      {action && (
        <Button variant="primary" {...action}>
          {action.label}
        </Button>
      )}
      {children}
    </div>
  )
}

/** Without a word when the server is away: the banner says that, and what was asked for is loaded when it is back. */
export function ErrorState({ error, onRetry }: { error: Error; onRetry?: () => void }) {
  if (isAway(error)) return <Loading label="Waiting for the server" />
  const id = error instanceof ApiError ? error.requestId : null
  return (
    <div class="empty" role="alert">
      <span class="empty-icon bad">
        <Icon name="warning" size={28} />
      </span>
      <h2>That did not work</h2>
      <p class="muted">{error.message}</p>
      {id && (
        <p class="muted small">
          Request <code>{id}</code> in the server’s log
        </p>
      )}
      {onRetry && (
        <Button icon="refresh" onClick={onRetry}>
          Try again
        </Button>
      )}
    </div>
  )
}

export function Loading({ label = 'Loading' }: { label?: string }) {
  return (
    <div class="loading" role="status">
      <span class="spinner large" aria-hidden="true" />
      <span class="muted">{label} …</span>
    </div>
  )
}

/** Grey lines in place of what is about to come. */
export function Skeleton({ lines = 4 }: { lines?: number }) {
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, i) => (
        <span key={i} />
      ))}
    </div>
  )
}

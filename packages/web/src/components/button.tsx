import type { ComponentChildren } from 'preact'
import { Icon, type IconName } from './icon.tsx'

export interface ButtonProps {
  variant?: 'primary' | 'secondary' | 'ghost' | 'danger'
  size?: 'small' | 'normal'
  icon?: IconName
  /** Something is under way: it can't be pressed again and says so. */
  busy?: boolean
  disabled?: boolean
  /** A link that looks like a button. */
  href?: string
  type?: 'button' | 'submit'
  /** Of a button with nothing but an icon; told to screen readers, and as a tooltip. */
  label?: string
  wide?: boolean
  /** Of a button that shows and hides something. */
  expanded?: boolean
  onClick?: (event: MouseEvent) => void
  children?: ComponentChildren
}

export function Button({
  variant = 'secondary',
  size = 'normal',
  icon,
  busy = false,
  disabled = false,
  href,
  type = 'button',
  label,
  wide = false,
  expanded,
  onClick,
  children,
}: ButtonProps) {
  const look = ['button', variant, size === 'small' && 'small', wide && 'wide', !children && 'icon-only']
  const common = { class: look.filter(Boolean).join(' '), 'aria-label': label, title: label, onClick }
  const content = (
    <>
      {busy ? (
        <span class="spinner" aria-hidden="true" />
      ) : (
        icon && <Icon name={icon} size={size === 'small' ? 16 : 18} />
      )}
      {children}
    </>
  )
  if (href !== undefined)
    return (
      <a {...common} href={href}>
        {content}
      </a>
    )
  return (
    <button {...common} type={type} disabled={disabled || busy} aria-busy={busy || undefined} aria-expanded={expanded}>
      {content}
    </button>
  )
}

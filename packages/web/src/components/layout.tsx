import type { ComponentChildren } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { online } from '../live/connection.ts'
import { PAGES, type Page } from '../pages.ts'
import { moves } from '../router.ts'
import { can, signOut } from '../session.ts'
import { chooseTheme, dark } from '../theme.ts'
import { Button } from './button.tsx'
import { Confirmation } from './dialog.tsx'
import { Icon } from './icon.tsx'

export function Layout({ current, children }: { current: Page | undefined; children: ComponentChildren }) {
  const main = useRef<HTMLElement>(null)
  const moved = moves.value
  // Another page begins at its top, for eyes and for screen readers.
  useEffect(() => {
    if (moved === 0) return
    window.scrollTo(0, 0)
    main.current?.focus({ preventScroll: true })
  }, [moved])
  return (
    <div class="layout">
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="side">
        <a class="brand" href="/">
          <Logo />
        </a>
        <Navigation current={current?.under ?? current?.pattern} />
        <div class="side-foot">
          <a class="nav-link" href="/docs">
            <Icon name="book" />
            <span>API</span>
          </a>
          <div class="side-tools">
            <ThemeToggle />
            <Button variant="ghost" icon="out" label="Sign out" onClick={() => signOut()} />
          </div>
        </div>
      </header>
      <main class="main" id="main" ref={main} tabIndex={-1}>
        <OfflineBanner />
        {children}
      </main>
      <Confirmation />
    </div>
  )
}

function Navigation({ current }: { current: string | undefined }) {
  return (
    <nav class="nav" aria-label="Pages">
      {PAGES.map(
        ({ pattern, nav, scope }) =>
          nav &&
          can(scope ?? 'read') && (
            <a key={pattern} class="nav-link" href={pattern} aria-current={pattern === current ? 'page' : undefined}>
              <Icon name={nav.icon} />
              <span>{nav.label}</span>
            </a>
          ),
      )}
    </nav>
  )
}

export function OfflineBanner() {
  return (
    <div role="status" aria-live="polite">
      {!online.value && (
        <p class="banner">
          <span class="spinner" aria-hidden="true" />
          The server does not answer. What is shown may be old; the page goes on by itself when it is back.
        </p>
      )}
    </div>
  )
}

export function ThemeToggle() {
  const next = dark.value ? 'light' : 'dark'
  return (
    <Button
      variant="ghost"
      icon={dark.value ? 'sun' : 'moon'}
      label={`Use the ${next} theme`}
      onClick={() => chooseTheme(next)}
    />
  )
}

export function Logo() {
  return (
    <span class="logo">
      <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">
        <rect class="logo-ground" width="32" height="32" rx="8" />
        <path class="logo-curve" d="M6 8c3 0 4 12 9 14s7-1 11-1" />
        <circle class="logo-dot" cx="26" cy="21" r="2.6" />
      </svg>
      <span>MLX training</span>
    </span>
  )
}

/** Every page: its address, its file (loaded when it is opened) and its place in the navigation. */
import type { Scope } from '@mlx-training/sdk'
import type { ComponentType } from 'preact'
import type { IconName } from './components/icon.tsx'
import { match } from './router.ts'

export interface PageProps {
  /** Of the address's pattern, decoded. */
  params: Record<string, string>
}

export interface Page {
  pattern: string
  load: () => Promise<{ default: ComponentType<PageProps> }>
  /** Pages without it are reached from others. */
  nav?: { label: string; icon: IconName }
  /** What a key must be allowed for the page to make sense; left out, read. */
  scope?: Scope
  /** The navigation's entry that it belongs to, where it has none of its own. */
  under?: string
}

/** The server answers these addresses with the page: packages/server/src/http/web.ts lists them too. A test compares. */
export const PAGES: Page[] = [
  { pattern: '/', load: () => import('./pages/experiments.tsx'), nav: { label: 'Experiments', icon: 'chart' } },
  { pattern: '/experiments/:name', load: () => import('./pages/experiment.tsx'), under: '/' },
  { pattern: '/comparison', load: () => import('./pages/compare.tsx'), under: '/' },
  {
    pattern: '/new',
    load: () => import('./pages/new-run.tsx'),
    nav: { label: 'New run', icon: 'plus' },
    scope: 'train',
  },
  { pattern: '/data', load: () => import('./pages/datasets.tsx'), nav: { label: 'Data sets', icon: 'table' } },
  { pattern: '/data/:id', load: () => import('./pages/dataset.tsx'), under: '/data' },
  {
    pattern: '/playground',
    load: () => import('./pages/playground.tsx'),
    nav: { label: 'Playground', icon: 'chat' },
    scope: 'generate',
  },
  { pattern: '/server', load: () => import('./pages/server.tsx'), nav: { label: 'Server', icon: 'server' } },
]

export function pageAt(path: string): { page: Page; params: Record<string, string> } | null {
  for (const page of PAGES) {
    const params = match(page.pattern, path)
    if (params) return { page, params }
  }
  return null
}

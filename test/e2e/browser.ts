/** Real Chromium against a real server, with what every page must hold to. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Browser, chromium, type Page } from 'playwright-core'
import { expect } from 'vitest'
import { KEY } from './support.ts'

const BROWSERS = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]
/** undefined: this machine has none, and tests with one are left out. CHROMIUM names another. */
export const browserPath = process.env.CHROMIUM ?? BROWSERS.find((path) => existsSync(path))

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: browserPath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
    ],
  })
}

export interface Watched {
  page: Page
  /** What the console said was wrong, and uncaught errors. */
  errors: string[]
  /** Requests to other hosts. */
  foreign: string[]
}

export interface OpenOptions {
  width?: number
  height?: number
  colorScheme?: 'light' | 'dark'
  /** Signed in already; null: not. */
  key?: string | null
}

/** A page in a context of its own, watched from its first request. */
export async function openPage(browser: Browser, url: string, options: OpenOptions = {}): Promise<Watched> {
  const { width = 1280, height = 800, colorScheme = 'light', key = KEY } = options
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce' })
  if (key !== null) await context.addInitScript(`sessionStorage.setItem('mlx-training.key', ${JSON.stringify(key)})`)
  const page = await context.newPage()
  // On a machine with other work, which is no fault of the page.
  page.setDefaultTimeout(120_000)
  const errors: string[] = []
  const foreign: string[] = []
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
  page.on('pageerror', (error) => errors.push(String(error)))
  const { origin } = new URL(url)
  page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(origin)) foreign.push(request.url())
  })
  await page.goto(url)
  return { page, errors, foreign }
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

interface Violation {
  id: string
  impact: string | null
  nodes: { target: unknown[]; failureSummary?: string }[]
}

/** What axe-core finds of serious and critical issues, one line each. */
export async function seriousIssues(page: Page): Promise<string[]> {
  // The content security policy lets no script in from here, so it is evaluated and not added to the document.
  await page.evaluate(AXE)
  const violations: Violation[] = await page.evaluate('axe.run().then(({ violations }) => violations)')
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} ${target}: ${failureSummary}`))
}

/** Nothing was wrong in the console, nothing was asked of another host, axe-core finds nothing serious. */
export async function expectSound({ page, errors, foreign }: Watched): Promise<void> {
  expect(errors).toEqual([])
  expect(foreign).toEqual([])
  expect(await seriousIssues(page)).toEqual([])
}

import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Server, workFolder } from './support.ts'

const BROWSERS = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]
const browserPath = process.env.CHROMIUM ?? BROWSERS.find((path) => existsSync(path))
const folder = workFolder()
let server: Server

beforeAll(async () => {
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

test('/docs lists every operation', async () => {
  const page = await fetch(`${server.url}/docs`)
  expect(page.status).toBe(200)
  expect(await page.text()).toContain('swagger-ui')
  const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as { openapi: string; paths: object }
  expect(document.openapi).toMatch(/^3\.1/)
})

test.runIf(browserPath)(
  '/docs works in a browser: operations shown, no console error, no request to another host',
  async () => {
    const browser = await chromium.launch({
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
    try {
      const page = await browser.newPage()
      const errors: string[] = []
      const foreign: string[] = []
      page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
      page.on('pageerror', (error) => errors.push(String(error)))
      page.on(
        'request',
        (request) =>
          !/^(data|blob):/.test(request.url()) && !request.url().startsWith(server.url) && foreign.push(request.url()),
      )
      await page.goto(`${server.url}/docs`)
      await page.waitForSelector('.opblock')
      expect(await page.locator('.opblock').count()).toBeGreaterThanOrEqual(8)
      await page.locator('.opblock-summary', { hasText: '/train/start' }).first().click()
      await page.waitForSelector('.opblock-body')
      expect(errors).toEqual([])
      expect(foreign).toEqual([])
    } finally {
      await browser.close()
    }
  },
  60_000,
)

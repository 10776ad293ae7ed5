import { afterAll, beforeAll, expect, test } from 'vitest'
import { browserPath, launchBrowser, openPage } from './browser.ts'
import { Server, workFolder } from './support.ts'

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
    const browser = await launchBrowser()
    try {
      const { page, errors, foreign } = await openPage(browser, `${server.url}/docs`)
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

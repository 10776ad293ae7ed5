// Pictures of pages of a running server, to be looked at: light and dark, on a phone, a laptop and a wide screen.
//   node test/e2e/screenshots.mjs URL KEY FOLDER [--width N] [--dark|--light] /path …
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    width: { type: 'string', multiple: true },
    dark: { type: 'boolean' },
    light: { type: 'boolean' },
    /** Milliseconds after the page is there, for what is drawn later. */
    wait: { type: 'string', default: '600' },
    /** The whole length of the page. */
    full: { type: 'boolean' },
  },
})
const [url, key, folder, ...paths] = positionals
const widths = values.width?.map(Number) ?? [390, 1280, 1920]
const schemes = ['light', 'dark'].filter((scheme) => values[scheme] ?? !(values.dark || values.light))
mkdirSync(folder, { recursive: true })
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
})
for (const colorScheme of schemes)
  for (const width of widths) {
    const context = await browser.newContext({
      viewport: { width, height: { 390: 844, 1280: 800 }[width] ?? 1080 },
      colorScheme,
      reducedMotion: 'reduce',
    })
    if (key !== 'none')
      await context.addInitScript((value) => {
        sessionStorage.setItem('mlx-training.key', value)
      }, key)
    const page = await context.newPage()
    page.on('console', (message) => message.type() === 'error' && console.log(`! ${page.url()}: ${message.text()}`))
    page.on('pageerror', (error) => console.log(`! ${page.url()}: ${error}`))
    for (const path of paths) {
      await page.goto(url + path)
      await page.waitForTimeout(Number(values.wait))
      const name = path === '/' ? 'home' : path.slice(1).replaceAll(/[^\w.-]+/g, '_')
      const file = join(folder, `${name}-${width}-${colorScheme}.png`)
      await page.screenshot({ path: file, fullPage: values.full ?? false })
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
      console.log(file, overflow > 0 ? `! ${overflow} px wider than the window` : '')
    }
    await context.close()
  }
await browser.close()

import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { browserPath, expectSound, launchBrowser, openPage } from './browser.ts'
import { KEY, Server, workFolder } from './support.ts'

describe.runIf(browserPath)('the page of the server', () => {
  const folder = workFolder()
  let server: Server
  let browser: Browser
  beforeAll(async () => {
    ;[server, browser] = await Promise.all([Server.start(folder.path), launchBrowser()])
  }, 120_000)
  afterAll(async () => {
    await browser?.close()
    await server?.stop()
    folder.remove()
  })

  test('a key is made, shown once, lets in with fewer rights, and is refused once it is revoked', async () => {
    const admin = await openPage(browser, `${server.url}/server`)
    const { page } = admin
    await page.getByText('Only the admin key').waitFor()
    await expectSound(admin)

    await page.getByRole('button', { name: 'Create a key' }).click()
    // Typing goes to the name, not to the button that closes the dialog.
    await page.keyboard.type(' ')
    await expect.poll(() => page.getByRole('textbox', { name: 'Name' }).inputValue()).toBe(' ')
    await page.getByRole('button', { name: 'Create', exact: true }).click()
    await page.getByText('Say what it is for').waitFor()
    await page.getByRole('textbox', { name: 'Name' }).fill('a reader')
    await expectSound(admin)
    await page.getByRole('button', { name: 'Create', exact: true }).click()
    const secret = page.getByRole('textbox', { name: 'API key' })
    const key = await secret.inputValue()
    expect(key).toMatch(/^mt_[0-9a-f]{12}_[0-9a-f]{64}$/)
    await expectSound(admin)
    // By accident: it stays until it is closed once more.
    await page.keyboard.press('Escape')
    await page.getByText('Have you kept the key?').waitFor()
    await page.keyboard.press('Escape')
    await secret.waitFor({ state: 'detached' })
    await page.getByRole('row', { name: /a reader/ }).waitFor()
    expect(await page.content()).not.toContain(key)

    const reader = await openPage(browser, `${server.url}/server`, { key: null })
    await reader.page.getByLabel('API key').fill(key)
    await reader.page.getByRole('button', { name: 'Sign in' }).click()
    await reader.page.getByRole('heading', { name: 'Your API key' }).waitFor()
    await reader.page.getByText('a reader').waitFor()
    const navigation = reader.page.getByRole('navigation', { name: 'Pages' })
    expect(await navigation.getByRole('link').allInnerTexts()).toEqual(['Experiments', 'Data sets', 'Server'])
    expect(await reader.page.getByRole('button', { name: 'Create a key' }).count()).toBe(0)
    await expectSound(reader)

    await page.getByRole('button', { name: 'Revoke a reader' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Revoke', exact: true }).click()
    await page.getByText('Only the admin key').waitFor()
    // Its next look at the server.
    await reader.page.getByText('The server no longer accepts this key').waitFor()
    expect(await reader.page.evaluate('sessionStorage.length')).toBe(0)
    await page.context().close()
    await reader.page.context().close()
  }, 60_000)

  test('the engine and its queue, and what becomes of the page while the server is away', async () => {
    const watched = await openPage(browser, `${server.url}/server`, { width: 390, height: 844, colorScheme: 'dark' })
    const { page } = watched
    const engine = page.getByRole('heading', { name: 'Engine' }).locator('xpath=ancestor::section')
    await engine.getByText('ready', { exact: true }).waitFor()
    await page.getByText('one job at a time').waitFor()
    await page.getByText('set ANTHROPIC_API_KEY').waitFor()
    await expectSound(watched)
    const port = new URL(server.url).port
    await server.stop()
    await page.getByText('The server does not answer').waitFor()
    expect(await page.getByText('one job at a time').count()).toBe(1)
    server = await Server.start(folder.path, {
      PORT: port,
      MLX_TRAINING_MAX_CONCURRENT_JOBS: '2',
      MLX_TRAINING_API_KEY: KEY,
    })
    await page.getByText('2 jobs at a time').waitFor()
    await page.getByText('The server does not answer').waitFor({ state: 'detached' })
    // The browser tells of each request that nobody took.
    for (const error of watched.errors) expect(error).toMatch(/ERR_(CONNECTION|EMPTY)/)
    expect(watched.foreign).toEqual([])
    await page.context().close()
  }, 60_000)
})

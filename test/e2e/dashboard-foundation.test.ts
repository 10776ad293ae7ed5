import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { browserPath, expectSound, launchBrowser, openPage } from './browser.ts'
import { KEY, ROOT, Server, workFolder } from './support.ts'

vi.setConfig({ testTimeout: 120_000 })
const folder = workFolder()
let server: Server
beforeAll(async () => {
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

const asBrowser = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }

test('browsers get the page at every address of it, programs the answers of the API', async () => {
  for (const path of ['/', '/experiments/mine', '/data/ds_1', '/server']) {
    const page = await fetch(server.url + path, { headers: asBrowser })
    expect(page.status).toBe(200)
    expect(page.headers.get('content-type')).toContain('text/html')
    expect(page.headers.get('cache-control')).toBe('no-cache')
    expect(page.headers.get('vary')).toContain('Accept')
    const policy = page.headers.get('content-security-policy')
    expect(policy).toContain("default-src 'self'")
    expect(policy).not.toContain('unsafe-inline')
    expect(await page.text()).not.toMatch(/<script>|<style| style=| on\w+=/)
  }
  expect((await server.request('GET', '/')).body).toMatchObject({ status_code: 404, error_type: 'NotFoundError' })
})

test('of an address that nothing has browsers get a page that says so, programs the error of the API', async () => {
  for (const path of ['/experiments/a/b', '/helth', '/assets/none.js', '/%20', '/new/x?y=z']) {
    const page = await fetch(server.url + path, { headers: { ...asBrowser, 'if-none-match': '*', range: 'bytes=0-1' } })
    expect(page.status, path).toBe(404)
    expect(page.headers.get('content-type')).toContain('text/html')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'self'")
    expect(page.headers.get('vary')).toContain('Accept')
    expect(await page.text()).toContain('<script type="module"')
    const head = await fetch(server.url + path, { method: 'HEAD', headers: asBrowser })
    expect([head.status, head.headers.get('content-type')]).toEqual([404, page.headers.get('content-type')])
    for (const headers of [{}, { accept: '*/*' }, { accept: 'application/json' }] as Record<string, string>[]) {
      const answer = await fetch(server.url + path, { headers })
      expect(answer.headers.get('content-type')).toContain('application/json')
      expect(await answer.json()).toMatchObject({ status_code: 404, error_type: 'NotFoundError' })
    }
  }
  const asked = async (path: string, method = 'GET') => {
    const answer = await fetch(server.url + path, { method, headers: asBrowser })
    return { status: answer.status, body: await answer.json() }
  }
  // What the API has is answered by it, whoever asks.
  expect(await asked('/train/start')).toMatchObject({ status: 405, body: { error_type: 'MethodNotAllowedError' } })
  expect(await asked('/train/mine/status')).toMatchObject({ status: 401 })
  expect(await asked('/helth', 'POST')).toMatchObject({ status: 404, body: { error_type: 'NotFoundError' } })
})

test('files with hashed names are kept for ever; one that is not there is an error of the API', async () => {
  const document = await (await fetch(server.url, { headers: asBrowser })).text()
  const script = /src="(\/assets\/[^"]+\.js)"/.exec(document)?.[1]
  const answer = await fetch(server.url + script)
  expect(answer.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
  expect(answer.headers.get('content-type')).toContain('javascript')
  const absent = await fetch(`${server.url}/assets/none.js`)
  expect(absent.status).toBe(404)
  expect(await absent.json()).toMatchObject({ error_type: 'NotFoundError' })
})

test('the first load is less than 150 KB of compressed script', () => {
  const assets = join(ROOT, 'packages', 'web', 'dist', 'assets')
  const size = (name: RegExp) =>
    readdirSync(assets)
      .filter((file) => name.test(file))
      .reduce((sum, file) => sum + gzipSync(readFileSync(join(assets, file))).length, 0)
  // All of it, whichever page is opened first.
  expect(size(/\.js$/)).toBeLessThan(150_000)
})

describe.runIf(browserPath)('in a browser', () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launchBrowser()
  })
  afterAll(() => browser?.close())

  test('sign in with a wrong key, then the right one; the session ends with the tab or a click', async () => {
    const watched = await openPage(browser, server.url, { key: null })
    const { page } = watched
    // No header could carry this one, so it is never sent.
    await page.getByLabel('API key').fill('mt_admin_…')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByText('it has characters that no key has').waitFor()
    await page.getByLabel('API key').fill('wrong')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByText('The API key is not valid').waitFor()
    // The browser itself tells of the answer 401.
    expect(watched.errors.splice(0)).toEqual([expect.stringContaining('401')])
    await expectSound(watched)
    await page.getByLabel('API key').fill(KEY)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('navigation', { name: 'Pages' }).waitFor()
    expect(await page.evaluate('JSON.stringify([{ ...localStorage }, document.cookie])')).not.toContain(KEY)
    await page.reload()
    await page.getByRole('navigation', { name: 'Pages' }).waitFor()
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByLabel('API key').waitFor()
    expect(await page.evaluate('sessionStorage.length')).toBe(0)
    await expectSound(watched)
    await page.context().close()
  })

  test('pages are reached by links, by the address and by going back; the keyboard gets to the content first', async () => {
    const watched = await openPage(browser, `${server.url}/server`)
    const { page } = watched
    await page.getByRole('heading', { level: 1, name: 'Server' }).waitFor()
    await page.keyboard.press('Tab')
    expect(await page.evaluate('document.activeElement?.textContent')).toBe('Skip to the content')
    await page.getByRole('link', { name: 'Data sets' }).click()
    await page.getByRole('heading', { level: 1, name: 'Data sets' }).waitFor()
    expect(new URL(page.url()).pathname).toBe('/data')
    await page.goBack()
    await page.getByRole('heading', { level: 1, name: 'Server' }).waitFor()
    await expectSound(watched)
    await page.context().close()
  })

  test.each([KEY, null])('an address that nothing has leads home (key %s)', async (key) => {
    const watched = await openPage(browser, `${server.url}/experiments/a/b`, { key })
    const { page } = watched
    await page.getByRole('heading', { name: 'There is no such page' }).waitFor()
    // The browser itself tells of the answer 404.
    expect(watched.errors.splice(0)).toEqual([expect.stringContaining('404')])
    expect(await page.title()).toContain('Not found')
    await expectSound(watched)
    await page.getByRole('link', { name: 'To the experiments' }).click()
    await page.getByRole('heading', { level: 1, name: key ? 'Experiments' : 'Sign in' }).waitFor()
    await page.context().close()
  })

  test('updated under an open tab: a page whose file is gone is loaded anew, with the session', async () => {
    const { page } = await openPage(browser, server.url)
    await page.getByRole('navigation', { name: 'Pages' }).waitFor()
    let asked = 0
    await page.route(/assets\/server-.*\.js/, (route) =>
      asked++ === 0 ? route.fulfill({ status: 404 }) : route.continue(),
    )
    await page.getByRole('link', { name: 'Server' }).click()
    await page.getByRole('heading', { level: 1, name: 'Server' }).waitFor()
    expect(asked).toBe(2)
    await page.context().close()
  })

  test('light or dark as the system has it, until another is chosen', async () => {
    const { page } = await openPage(browser, server.url, { colorScheme: 'dark' })
    const ground = () => page.evaluate('getComputedStyle(document.documentElement).backgroundColor')
    await page.getByRole('navigation', { name: 'Pages' }).waitFor()
    expect(await ground()).toBe('rgb(14, 17, 20)')
    await page.getByRole('button', { name: 'Use the light theme' }).click()
    expect(await ground()).toBe('rgb(246, 247, 248)')
    await page.reload()
    await page.getByRole('button', { name: 'Use the dark theme' }).waitFor()
    expect(await ground()).toBe('rgb(246, 247, 248)')
    await page.context().close()
  })
})

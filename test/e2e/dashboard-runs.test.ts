/** Runs in a browser: watched, compared, stopped, deleted, and through a death of the server. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { browserPath, expectSound, launchBrowser, openPage, type Watched } from './browser.ts'
import { makeTinyModel, Server, workFolder } from './support.ts'

vi.setConfig({ testTimeout: 300_000 })
const folder = workFolder()
let server: Server
let browser: Browser
/** The same address after a restart, as it is for a page that is open. */
let port: string

beforeAll(async () => {
  makeTinyModel(join(folder.path, 'tiny'))
  for (const [file, count] of [
    ['rows.json', 12],
    ['held-out.json', 2],
  ] as const)
    writeFileSync(join(folder.path, file), JSON.stringify(rows(file, count)))
  server = await Server.start(folder.path)
  port = new URL(server.url).port
  if (browserPath) browser = await launchBrowser()
}, 120_000)
afterAll(async () => {
  await browser?.close()
  await server?.stop()
  folder.remove()
})

const rows = (of: string, count: number) =>
  Array.from({ length: count }, (_, i) => ({
    instruction: `Which row of ${of} is this?`,
    input: '',
    output: `Row ${i}.`,
  }))

const start = async (name: string, change: object = {}) => {
  const { status, body } = await server.request('POST', '/train/start', {
    experiment_name: name,
    model_name: './tiny',
    epochs: 10_000,
    max_steps: 20,
    lora: { use_lora: true, lora_r: 4 },
    dataset: { dataset_path: 'rows.json', batch_size: 1, max_seq_length: 64, validation_path: 'held-out.json' },
    eval_steps: 10,
    save_steps: 10,
    ...change,
  })
  expect(status, JSON.stringify(body)).toBe(200)
}

const lossChart = (page: Page) => page.getByRole('img', { name: /^Loss\. / })
/** How many steps the loss chart has drawn, as it tells screen readers. */
async function drawnSteps(page: Page): Promise<number> {
  const label = await lossChart(page).getAttribute('aria-label')
  return Number(/(?:Training|long): ([\d,]+) values/.exec(label ?? '')?.[1]?.replaceAll(',', '') ?? 0)
}
async function untilDrawn(page: Page, steps: number): Promise<void> {
  await expect.poll(() => drawnSteps(page), { timeout: 120_000, interval: 100 }).toBeGreaterThanOrEqual(steps)
}

describe.runIf(browserPath)('experiments', () => {
  test('nothing trained yet: what to do first', async () => {
    const watched = await openPage(browser, server.url)
    await watched.page.getByText('Nothing has been trained here yet').waitFor()
    await watched.page.getByRole('link', { name: 'New run' }).last().waitFor()
    await expectSound(watched)
    await watched.page.context().close()
  })

  test('a run is watched while it learns, through a death of the server, and stopped; nothing is shown twice', async () => {
    await start('long', { max_steps: 1_000_000, eval_steps: 20, learning_rate: 1e-3 })
    const watched = await openPage(browser, server.url)
    const { page } = watched
    await page.getByRole('link', { name: 'long', exact: true }).click()
    await page.getByRole('heading', { level: 1, name: 'long' }).waitFor()
    await untilDrawn(page, 12)
    await page.getByText('Validation', { exact: true }).first().waitFor()
    await expectSound(watched)

    await server.kill('SIGKILL')
    await page.getByText('The server does not answer').waitFor()
    await page.getByText('running').first().waitFor()
    server = await Server.start(folder.path, { PORT: port })
    const before = await drawnSteps(page)
    await page.getByText('The server does not answer').waitFor({ state: 'detached' })
    await untilDrawn(page, before + 15)
    // The browser itself tells of refused connections.
    expect(watched.errors.filter((error) => !/ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)/.test(error))).toEqual([])
    watched.errors.length = 0

    await page.getByRole('button', { name: 'Stop', exact: true }).click()
    await page.getByRole('button', { name: 'Resume' }).waitFor()
    await page.getByText('stopped').first().waitFor()
    const status = await server.status('long')
    await expect.poll(() => drawnSteps(page), { timeout: 60_000 }).toBe(status.progress.current_step)
    await page.getByRole('tab', { name: 'Events' }).click()
    const steps = await page.getByText(/^after step [\d,]+: loss/).allTextContents()
    expect(steps.length).toBeGreaterThan(1)
    expect(new Set(steps).size).toBe(steps.length)
    await expectSound(watched)
    await page.context().close()
  })

  test('every part of an experiment is sound; samples, checkpoints, configuration and data are there', async () => {
    await start('other', {
      learning_rate: 5e-3,
      tags: ['for support', 'a/b & c'],
      sample_prompts: ['Which port?'],
      sample_steps: 20,
      sample_max_tokens: 4,
    })
    await server.until('other', ({ status }) => status === 'completed', 280)
    const watched = await openPage(browser, `${server.url}/experiments/other`)
    const { page } = watched
    await untilDrawn(page, 20)
    for (const [tab, text] of [
      ['Samples', 'Tuned'],
      ['Checkpoints', 'fine-tuned/other@step-20'],
      ['Configuration', 'gradient_accumulation_steps'],
      ['Data', 'Tokens an epoch'],
      ['Events', 'completed'],
    ] as const) {
      await page.getByRole('tab', { name: tab }).click()
      await page.getByText(text).first().waitFor()
      await expectSound(watched)
    }
    await page.getByRole('tab', { name: 'Data' }).click()
    await page.getByRole('button', { name: 'Check the file' }).click()
    await page.getByText('Characters of a row').waitFor()
    await page.getByText('Found by').waitFor()
    await expectSound(watched)
    await page.getByRole('tab', { name: 'Checkpoints' }).click()
    const row = page.getByRole('row').filter({ hasText: 'fine-tuned/other@step-10' })
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      row.getByRole('button', { name: 'Download' }).click(),
    ])
    expect(download.suggestedFilename()).toBe('other-step-10.tar')
    const { output_dir } = await server.status('other')
    const adapter = join(output_dir, 'checkpoints', 'step-00000010', 'adapters.safetensors')
    expect(readFileSync(await download.path()).includes(readFileSync(adapter))).toBe(true)
    await page.getByRole('tab', { name: 'Configuration' }).click()
    await page.getByLabel('Compare with').selectOption('long')
    await page.getByText('parameters differ from long').waitFor()
    await page.getByRole('link', { name: 'Clone' }).click()
    await page.getByText('With the settings of other').waitFor()
    await page.context().close()
  })

  test('chosen in the list, two are compared: curves, results and what differs', async () => {
    const watched = await openPage(browser, server.url)
    const { page } = watched
    await page.getByLabel('Choose long').check()
    await page.getByLabel('Choose other').check()
    await expectSound(watched)
    await page.getByRole('link', { name: 'Compare 2' }).click()
    await page.getByRole('row', { name: /learning_rate/ }).waitFor()
    await expect
      .poll(() => lossChart(page).getAttribute('aria-label'), { timeout: 60_000 })
      .toMatch(/long: [\d,]+ values.*other: 20 values/)
    await expectSound(watched)
    await page.getByLabel('Search').waitFor({ state: 'detached' })
    await page.goBack()
    await page.getByLabel('Search experiments').fill('oth')
    await page.getByRole('link', { name: 'long', exact: true }).waitFor({ state: 'detached' })
    await page.getByRole('link', { name: 'other', exact: true }).waitFor()
    await page.context().close()
  })

  test('tags are shown, and lead to what has them: from the list, from a run, from the address', async () => {
    const watched = await openPage(browser, server.url)
    const { page } = watched
    const runs = (name: string) => page.getByRole('link', { name, exact: true })
    await runs('long').waitFor()
    await page.getByRole('button', { name: 'a/b & c' }).click()
    await runs('long').waitFor({ state: 'detached' })
    await runs('other').waitFor()
    await expectSound(watched)
    await page.getByLabel('Tag', { exact: true }).selectOption('All tags')
    await runs('long').waitFor()
    await page.getByLabel('Search experiments').fill('support')
    await runs('long').waitFor({ state: 'detached' })
    await runs('other').click()
    await page.getByRole('heading', { level: 1, name: 'other' }).waitFor()
    await page.getByRole('link', { name: 'a/b & c' }).click()
    await runs('other').waitFor()
    expect(new URL(page.url()).searchParams.get('tag')).toBe('a/b & c')
    expect(await page.getByLabel('Tag', { exact: true }).inputValue()).toBe('a/b & c')
    expect(await runs('long').count()).toBe(0)
    await page.getByLabel('Search experiments').fill('nothing')
    await page.getByRole('button', { name: 'Show all' }).click()
    await runs('long').waitFor()
    await page.goto(`${server.url}/new?from=other`)
    await page.getByText('With the settings of other').waitFor()
    expect(await page.locator('[data-path="tags"] textarea').inputValue()).toBe('for support\na/b & c')
    await page.context().close()
  })

  test('zoom by keys, in all charts; a longer view by Escape', async () => {
    const { page } = await openPage(browser, `${server.url}/experiments/other`)
    await untilDrawn(page, 20)
    await lossChart(page).focus()
    await page.keyboard.press('+')
    await page.getByRole('button', { name: 'Show all' }).waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'Show all' }).waitFor({ state: 'detached' })
    await page.context().close()
  })

  test('deleted after a question; then it is nowhere, on a list that is open elsewhere either', async () => {
    const { page: list } = await openPage(browser, `${server.url}/`)
    const asked: string[] = []
    list.on('request', (request) => asked.push(new URL(request.url()).pathname))
    await list.getByRole('link', { name: 'other', exact: true }).waitFor()
    const watched = await openPage(browser, `${server.url}/experiments/other`)
    const { page } = watched
    await page.getByRole('button', { name: 'Delete' }).click()
    await expectSound(watched)
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('heading', { level: 1, name: 'Experiments' }).waitFor()
    await page.getByRole('link', { name: 'long', exact: true }).waitFor()
    expect((await server.request('GET', '/train/other/status')).status).toBe(404)
    await page.context().close()
    await list.getByRole('link', { name: 'other', exact: true }).waitFor({ state: 'detached' })
    await list.getByRole('link', { name: 'long', exact: true }).waitFor()
    // Pushed, not asked for.
    expect(asked).not.toContain('/train')
    await list.context().close()
  })

  test('a key that may only read is offered nothing else; revoked, it is signed out', async () => {
    const made = await server.request<{ key: string; id: string }>('POST', '/keys', {
      name: 'reader',
      scopes: ['read'],
    })
    const watched: Watched = await openPage(browser, `${server.url}/experiments/long`, { key: made.body.key })
    const { page } = watched
    await untilDrawn(page, 1)
    await page.getByRole('link', { name: 'New run' }).waitFor({ state: 'detached' })
    for (const name of ['Resume', 'Delete']) expect(await page.getByRole('button', { name }).count()).toBe(0)
    expect(await page.getByRole('link', { name: 'Clone' }).count()).toBe(0)
    await expectSound(watched)
    await server.request('DELETE', `/keys/${made.body.id}`)
    await page.getByText('The server no longer accepts this key').waitFor()
    await page.context().close()
  })
})

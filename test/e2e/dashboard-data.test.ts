/** The pages Data sets and New run in real Chromium, against the real server and engine. */
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { browserPath, expectSound, launchBrowser, openPage } from './browser.ts'
import { makeTinyModel, Server, workFolder } from './support.ts'

const folder = workFolder()
let server: Server
let browser: Browser

const rows = Array.from({ length: 24 }, (_, i) => ({
  instruction: `What is ${i} plus ${i + 1} in this example?`,
  output: `${i} plus ${i + 1} is ${2 * i + 1}.`,
}))
const good = rows.map((row) => JSON.stringify(row))
const broken = good.with(3, '{"instruction": "What is the capital of France?"}').with(7, good[6] as string)
const file = (name: string, lines: string[]) => ({
  name,
  mimeType: 'application/jsonl',
  buffer: Buffer.from(`${lines.join('\n')}\n`),
})
/** Only a hang takes so long: on a busy machine each start of an engine takes many seconds. */
const HANG_MS = 150_000
const open = async (path: string, options: object = {}) => {
  const watched = await openPage(browser, server.url + path, options)
  watched.page.setDefaultTimeout(HANG_MS)
  return watched
}
const poll = <T>(value: () => Promise<T>) => expect.poll(value, { timeout: HANG_MS })
const heading = (page: Page, name: string | RegExp) => page.getByRole('heading', { level: 1, name })

describe.runIf(browserPath)('in a browser', () => {
  beforeAll(async () => {
    makeTinyModel(join(folder.path, 'tiny'))
    server = await Server.start(folder.path)
    browser = await launchBrowser()
  }, 90_000)
  afterAll(async () => {
    await browser?.close()
    await server?.stop()
    folder.remove()
  }, 60_000)

  test('a broken file: uploaded, its findings lead to rows, a row’s mask, cleaned, deleted', async () => {
    const watched = await open('/data')
    const { page } = watched
    await page.getByText('No data sets yet').waitFor()
    await page.getByLabel('Files to upload').setInputFiles(file('sums.jsonl', broken))

    await heading(page, 'sums.jsonl').waitFor()
    await page.getByText('missing key').waitFor()
    await page.getByText('duplicate row').waitFor()
    await page.getByRole('img', { name: /^Words of a row: / }).waitFor()
    await expectSound(watched)

    const finding = page.getByRole('listitem').filter({ hasText: 'missing key' })
    await finding.getByRole('button', { name: '3' }).click()
    const target = page.locator('[aria-current="true"]')
    await target.getByText('What is the capital of France?').waitFor()
    await target.getByText('Missing "output"').waitFor()
    expect(new URL(page.url()).search).toBe('?tab=rows&row=3')
    await page.getByRole('radio', { name: 'With findings 2' }).check()
    await poll(() => page.getByRole('heading', { level: 3 }).allTextContents()).toEqual(['Row 3', 'Row 7'])
    await expectSound(watched)

    await page.getByRole('button', { name: 'Clean' }).click()
    await page.getByRole('button', { name: 'See what it does' }).click()
    await page.getByText('24 rows before, 22 after').waitFor()
    await page.getByText('Row 3: Missing "output"').waitFor()
    await expectSound(watched)
    await page.getByRole('button', { name: 'Make a cleaned data set' }).click()
    await page.getByRole('button', { name: /^Open / }).click()
    await page.getByText('cleaned from').waitFor()
    await page.getByText('Nothing was found').waitFor()

    await page.getByRole('tab', { name: 'Rows' }).click()
    await page.getByRole('button', { name: 'Mask of row 6' }).click()
    await page.locator('.mask .token.trained').first().waitFor()
    const trained = (await page.locator('.mask .token.trained').allTextContents()).join('')
    expect(trained).toContain('8 plus 9 is 17.')
    expect((await page.locator('.mask .token.masked').allTextContents()).join('')).toContain('What is 8 plus 9')
    await expectSound(watched)

    const cleaned = (await page.getByRole('heading', { level: 1 }).textContent()) as string
    await page.getByRole('button', { name: 'Delete the data set' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('link', { name: 'sums.jsonl', exact: true }).waitFor()
    expect(await page.getByRole('link', { name: cleaned, exact: true }).count()).toBe(0)
    await expectSound(watched)
    await page.context().close()
  }, 300_000)

  test('a row as long as a book is cut until all of it is asked for; markup in rows is text; a row that is not there', async () => {
    const watched = await open('/data')
    const { page } = watched
    const markup = '<img src=x onerror="window.hurt = true"><script>window.hurt = true</script>'
    const long = JSON.stringify({ instruction: markup, output: 'word '.repeat(100_000).trim() })
    const name = `${markup.replaceAll('/', '')}.jsonl`
    await page.getByLabel('Files to upload').setInputFiles([file(name, [long, ...good]), file('short.jsonl', good)])
    await page.getByRole('link', { name }).first().click()
    await page.getByRole('tab', { name: 'Rows' }).click()
    const first = page.getByRole('listitem').filter({ hasText: markup })
    const all = first.getByRole('button', { name: 'Show all 499,999 characters' })
    await all.waitFor()
    expect((await first.textContent())?.length).toBeLessThan(6000)
    await expectSound(watched)
    await all.click()
    await poll(async () => (await first.textContent())?.length).toBeGreaterThan(499_999)
    await page.goto(`${page.url().split('?')[0]}?tab=rows&row=99999`)
    await page.locator('[aria-current="true"]').getByRole('heading', { name: 'Row 24' }).waitFor()
    expect(await page.evaluate('window.hurt')).toBeUndefined()
    await expectSound(watched)
    await page.context().close()
  }, 300_000)

  test('data with errors are told where they are chosen; what is entered survives a reload; a wrong line of a list is told at its field', async () => {
    const watched = await open('/new')
    const { page, errors } = watched
    const bad = good.map(() => '{"instruction": "What is the capital of France?"}')
    await page
      .getByLabel('Files to upload')
      .setInputFiles([file('half.jsonl', broken.with(9, '{}')), file('none.jsonl', bad)])
    const none = page.getByRole('radio', { name: /none\.jsonl/ })
    await none.waitFor()
    expect(await none.isDisabled()).toBe(true)
    await page.getByText('0 of 24 rows usable').waitFor()
    await page.getByRole('link', { name: 'what is wrong' }).waitFor()
    const half = page.getByRole('radio', { name: /half\.jsonl.*22 of 24 rows usable.*2 rows with errors/ })
    await half.click()
    await page.getByText('This file can’t be trained on as it is').waitFor()

    await page.getByLabel('Name', { exact: true }).fill('reloaded')
    const tags = page.getByLabel('Tags', { exact: false })
    await page.locator('details', { has: tags }).locator('summary').click()
    await tags.fill(`fine\n${'x'.repeat(70)}`)
    await page.getByRole('button', { name: 'Start the run' }).click()
    await page.getByText(`“${'x'.repeat(24)}…” must have at most 64 characters`).waitFor()
    expect(await tags.getAttribute('aria-invalid')).toBe('true')
    expect(await page.getByRole('alert').count()).toBe(1)
    expect(errors.splice(0)).toEqual([expect.stringContaining('422')])
    await expectSound(watched)

    await page.reload()
    await page.getByText('is here again').waitFor()
    await poll(() => half.isChecked()).toBe(true)
    expect(await page.getByLabel('Name', { exact: true }).inputValue()).toBe('reloaded')
    expect(await tags.inputValue()).toBe(`fine\n${'x'.repeat(70)}`)
    await expectSound(watched)
    await page.getByRole('button', { name: 'Begin anew' }).click()
    await poll(() => half.isChecked()).toBe(false)
    await poll(() => page.getByRole('radio', { name: /SmolLM2/ }).isChecked()).toBe(true)
    expect(await tags.inputValue()).toBe('')
    await page.reload()
    await half.waitFor()
    expect(await page.getByText('is here again').count()).toBe(0)
    expect(errors).toEqual([])
    await page.context().close()
  }, 300_000)

  test('a run: model, upload, report, mask, settings with their errors, estimate, start; and another made of it', async () => {
    const watched = await open('/new', { colorScheme: 'dark' })
    const { page, errors } = watched
    await page.getByRole('button', { name: 'Start the run' }).click()
    await page.getByText('Choose a data set', { exact: true }).waitFor()
    // The only one that is listed is chosen; a model folder beside it is named.
    await poll(() => page.getByRole('radio', { name: /SmolLM2/ }).isChecked()).toBe(true)
    await page.getByLabel('Or another one').fill('tiny')
    await page.keyboard.press('Enter')
    // Dropped beside the box, which must do as well.
    const files = await page.evaluateHandle(`(() => {
      const transfer = new DataTransfer()
      transfer.items.add(new File([${JSON.stringify(good.join('\n'))}], 'more-sums.jsonl'))
      return transfer
    })()`)
    await page.dispatchEvent('main', 'drop', { dataTransfer: files })
    await poll(() => page.getByRole('radio', { name: /more-sums/ }).isChecked()).toBe(true)

    await page.getByText('Rows learned from').waitFor()
    await page.getByRole('list', { name: 'Tokens of an epoch' }).getByText('Trained').waitFor()
    await page.getByRole('tab', { name: 'Mask of a row' }).click()
    await page.locator('.mask .token.trained').first().waitFor()
    await page.getByRole('button', { name: 'Next row' }).click()
    await poll(async () => (await page.locator('.mask .token.trained').allTextContents()).join('')).toContain(
      '1 plus 2 is 3.',
    )

    // A row's number and Enter move the mask, and start nothing.
    await page.getByLabel('Row number, from 0').fill('5')
    await page.keyboard.press('Enter')
    await poll(async () => (await page.locator('.mask .token.trained').allTextContents()).join('')).toContain(
      '5 plus 6 is 11.',
    )

    await page.getByText('Length and learning rate').click()
    await page.getByText('What of the model is trained').click()
    const steps = page.getByLabel('Steps at most')
    await steps.fill('0')
    await page.getByText('must be at least 1').waitFor()
    await steps.fill('3')
    const modules = page.getByLabel('Target modules')
    await modules.fill('v_porj')
    await expectSound(watched)
    await page.getByLabel('Name', { exact: true }).fill('sums')
    await page.getByRole('button', { name: 'Start the run' }).click()
    await page.getByText('did you mean v_proj?').waitFor()
    expect(await modules.evaluate('document.activeElement.getAttribute("aria-invalid")')).toBe('true')
    // The browser itself tells of the answer 400.
    expect(errors.splice(0)).toEqual([expect.stringContaining('400')])

    await modules.fill('v_proj')
    const call = page.locator('.code')
    expect(await call.textContent()).toContain('"max_steps": 3')
    await page.getByRole('tab', { name: 'CLI' }).click()
    expect(await call.textContent()).toMatch(
      /--name sums \\\n {2}--model tiny[\s\S]+--set 'lora.lora_target_modules=\["v_proj"\]'/,
    )

    await page.getByRole('button', { name: 'Measure time and memory' }).click()
    await page.getByText('fits into memory').waitFor()
    await expectSound(watched)
    await page.getByRole('button', { name: 'Start the run' }).click()
    await heading(page, /sums/).waitFor()
    expect(new URL(page.url()).pathname).toBe('/experiments/sums')
    expect(await page.evaluate('Object.keys(sessionStorage)')).toEqual(['mlx-training.key'])

    await page.goto(`${server.url}/new?from=sums`)
    await page.getByText('With the settings of sums').waitFor()
    expect(await page.getByLabel('Name', { exact: true }).inputValue()).toMatch(/^sums-/)
    expect(await page.getByLabel('Or another one').inputValue()).toBe('tiny')
    await page.getByText('Length and learning rate').click()
    expect(await page.getByLabel('Steps at most').inputValue()).toBe('3')
    expect(errors).toEqual([])
    await page.context().close()
  }, 300_000)
})

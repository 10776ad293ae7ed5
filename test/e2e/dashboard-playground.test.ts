import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { browserPath, expectSound, launchBrowser, openPage } from './browser.ts'
import { makeTinyModel, Server, workFolder } from './support.ts'

/** Two models of the same kind with other random weights, so that their answers differ. */
const FIRST = './first'
const SECOND = './second'
const ADDRESS = `/playground?${new URLSearchParams([
  ['model', FIRST],
  ['model', SECOND],
])}`

const answerOf = (page: Page, model: string) => page.getByRole('article', { name: `Answer of ${model}` })
const stateOf = (page: Page, model: string) => answerOf(page, model).last().locator('.badge')
/** The address says which models there are. */
const named = (page: Page, models: string[]) =>
  page.waitForURL(({ searchParams }) => searchParams.getAll('model').join() === models.join())
const ask = async (page: Page, text: string) => {
  await page.getByLabel('Message').fill(text)
  await page.getByLabel('Message').press('Enter')
}

describe.runIf(browserPath)('the playground', () => {
  const folder = workFolder()
  let server: Server
  let browser: Browser
  beforeAll(async () => {
    makeTinyModel(join(folder.path, 'first'), { seed: 1, max_position_embeddings: 100_000 })
    makeTinyModel(join(folder.path, 'second'), { seed: 2, max_position_embeddings: 100_000 })
    ;[server, browser] = await Promise.all([Server.start(folder.path), launchBrowser()])
  }, 120_000)
  afterAll(async () => {
    await browser?.close()
    await server?.stop()
    folder.remove()
  })

  test('answers of two models stream side by side, go on from what was said, are stopped alone and asked again', async () => {
    const watched = await openPage(browser, server.url + ADDRESS)
    const { page } = watched
    await page.getByLabel('Max tokens').fill('12')
    await page.getByLabel('Seed').fill('7')
    await ask(page, 'Which port?')
    for (const model of [FIRST, SECOND])
      await stateOf(page, model)
        .getByText(/finished|cut at max tokens/)
        .waitFor()
    const texts = () => page.locator('.chat-answer-text').allInnerTexts()
    const [first, second] = await texts()
    expect(first).not.toBe(second)
    expect(await page.locator('.chat-answer-foot').first().textContent()).toMatch(/\d+ tokens/)

    // What was said before is in the next request, of each model its own.
    const asked = page.waitForRequest((request) => request.url().endsWith('/generate'))
    await ask(page, 'And then?')
    expect((await asked).postDataJSON()).toMatchObject({
      model: FIRST,
      messages: [
        { role: 'user', content: 'Which port?' },
        { role: 'assistant' },
        { role: 'user', content: 'And then?' },
      ],
      max_tokens: 12,
      seed: 7,
      stream: true,
    })
    for (const model of [FIRST, SECOND])
      await stateOf(page, model)
        .getByText(/finished|cut at max tokens/)
        .waitFor()

    // Tokens that were said are ever likelier, so that no end of the turn comes before its 90,000th token.
    await page.getByText('More', { exact: true }).click()
    await page.getByLabel('Frequency penalty').fill('-2')
    await page.getByLabel('Temperature', { exact: true }).fill('0')
    await page.getByLabel('Max tokens').fill('90000')
    await page.getByRole('button', { name: 'Edit the question' }).last().click()
    await page.getByLabel('The question in other words').fill('Tell me everything')
    await page.getByRole('button', { name: 'Ask instead' }).click()
    for (const model of [FIRST, SECOND])
      await answerOf(page, model)
        .last()
        .getByText(/≈ \d+ tokens/)
        .waitFor()
    await page.getByRole('button', { name: `Stop ${FIRST}` }).click()
    await stateOf(page, FIRST).getByText('stopped').waitFor()
    expect(await stateOf(page, SECOND).count()).toBe(0)
    await page.getByRole('button', { name: 'Stop', exact: true }).click()
    await stateOf(page, SECOND).getByText('stopped').waitFor()
    await page.getByLabel('Max tokens').fill('12')
    await page.getByRole('button', { name: `Ask ${SECOND} again` }).click()
    await stateOf(page, SECOND)
      .getByText(/finished|cut at max tokens/)
      .waitFor()
    await expectSound(watched)
    await page.context().close()
  })

  test('what is wrong at a provider is said in its column, and the other answers; models are added and removed', async () => {
    const watched = await openPage(browser, `${server.url}/playground?model=${FIRST}`, { width: 390, height: 844 })
    const { page } = watched
    await page.getByRole('button', { name: 'Add a model' }).click()
    await page.getByRole('combobox', { name: 'Find a model' }).fill('openai/gpt-4.1')
    await page.keyboard.press('Enter')
    await named(page, [FIRST, 'openai/gpt-4.1'])
    await page.getByRole('button', { name: 'Settings' }).click()
    await page.getByLabel('Max tokens').fill('4')
    await ask(page, 'Which port?')
    await answerOf(page, 'openai/gpt-4.1').getByText('set OPENAI_API_KEY').waitFor()
    await stateOf(page, FIRST)
      .getByText(/finished|cut at max tokens/)
      .waitFor()
    // The browser itself tells of the answer 503.
    expect(watched.errors.splice(0)).toEqual([expect.stringContaining('503')])
    await page.getByRole('button', { name: 'Code', exact: true }).click()
    await page.getByRole('dialog').getByText('curl -N').waitFor()
    await expectSound(watched)
    await page.keyboard.press('Escape')
    await page.getByRole('button', { name: 'Remove gpt-4.1' }).click()
    await named(page, [FIRST])
    await page.getByRole('button', { name: 'Clear' }).click()
    await page.getByText('Ask one question, see every answer').waitFor()
    await page.context().close()
  })
})

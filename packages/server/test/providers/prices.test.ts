import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { ConfigError } from '../../src/config.ts'
import type { GenerateOutput } from '../../src/providers/port.ts'
import { loadPrices } from '../../src/providers/prices.ts'
import { config } from './setup.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mlx-training-prices-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function load(prices: unknown) {
  const file = join(folder, 'prices.json')
  writeFileSync(file, typeof prices === 'string' ? prices : JSON.stringify(prices))
  return loadPrices(config({ MLX_TRAINING_PRICES: file }).pricesFile)
}

const output = (change: Partial<GenerateOutput> = {}): GenerateOutput => ({
  text: '',
  model: 'm',
  tokensGenerated: 500,
  promptTokens: 1000,
  finishReason: 'stop',
  ...change,
})

test('none without prices', () => {
  expect(loadPrices(config({}).pricesFile)('openai', 'gpt-4.1', output())).toBeUndefined()
})

test('of the prompt, of what the cache had of it, and of the answer', () => {
  const cost = load({ openai: { 'gpt-4.1': { input: 2, output: 8, cached_input: 0.5 } } })
  expect(cost('openai', 'gpt-4.1', output())).toEqual({ input: 0.002, output: 0.004, total: 0.006, currency: 'USD' })
  expect(cost('openai', 'gpt-4.1', output({ cachedTokens: 400 }))).toMatchObject({ input: 0.0014, total: 0.0054 })
  expect(cost('openai', 'gpt-4.1', output({ promptTokens: null }))).toBeUndefined()
  expect(cost('openai', 'gpt-5', output())).toBeUndefined()
  expect(cost('anthropic', 'gpt-4.1', output())).toBeUndefined()
})

test('an exact name counts before a beginning, a longer one before a shorter', () => {
  const at = (input: number) => ({ input, output: 0 })
  const cost = load({ currency: 'EUR', openai: { '*': at(1), 'gpt-4.1*': at(2), 'gpt-4.1': at(3), 'gpt*': at(4) } })
  const total = (model: string) => cost('openai', model, output({ promptTokens: 1e6 }))?.total
  expect(['o3', 'gpt-4.1-mini', 'gpt-4.1', 'gpt-5'].map(total)).toEqual([1, 2, 3, 4])
  expect(cost('openai', 'o3', output())?.currency).toBe('EUR')
})

describe('is refused at the start', () => {
  it.each<[unknown, RegExp]>([
    ['{', /prices\.json: can't be read as JSON/],
    [[], /must be an object/],
    [{ opnai: {} }, /no provider "opnai"; there are openai, anthropic/],
    [{ openai: 3 }, /openai must be an object/],
    [{ openai: { m: { input: 1 } } }, /openai\.m\.output must be a number of 0 or more: the price of a million tokens/],
    [{ openai: { m: { input: -1, output: 1 } } }, /openai\.m\.input/],
    [{ openai: { m: { input: 1, output: 1, cached: 1 } } }, /openai\.m has no field "cached"/],
    [{ openai: { 'a*b': { input: 1, output: 1 } } }, /a star may only stand at the end/],
    [{ currency: '$', openai: {} }, /currency/],
  ])('%j', (prices, message) => {
    expect(() => load(prices)).toThrow(ConfigError)
    expect(() => load(prices)).toThrow(message)
  })

  it('a file that is not there', () => {
    expect(() => loadPrices(join(folder, 'none.json'))).toThrow(/MLX_TRAINING_PRICES.*none\.json.*ENOENT/)
  })
})

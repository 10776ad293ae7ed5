import { readFileSync } from 'node:fs'
import { type Cost, PROVIDERS, type ProviderName } from '@mlx-training/contract'
import { ConfigError } from '../config.ts'
import type { GenerateOutput } from './port.ts'

/** Of a million tokens. */
export interface Price {
  input: number
  output: number
  /** Of the prompt, from the provider's cache; input's when left out. */
  cached_input?: number
}

export type CostOf = (name: ProviderName, model: string, output: GenerateOutput) => Cost | undefined

const NO_COST: CostOf = () => undefined

/**
 * Reads {"currency": "USD", "openai": {"gpt-4.1": {"input": 2, "output": 8, "cached_input": 0.5}, "gpt-4.1*": …, "*": …}, …}.
 * A name with a star at its end stands for all that begin so; of several the longest counts, an exact one first.
 * ConfigError that names the place.
 */
export function loadPrices(file: string | null): CostOf {
  if (file === null) return NO_COST
  const { currency = 'USD', ...providers } = readObject(file)
  if (typeof currency !== 'string' || !/^[A-Z]{3}$/.test(currency))
    throw wrong(file, 'currency must be three capital letters, such as "USD"')
  const prices = new Map(
    Object.entries(providers).map(([name, models]) => {
      if (!(PROVIDERS as readonly string[]).includes(name))
        throw wrong(file, `there is no provider "${name}"; there are ${PROVIDERS.join(', ')}`)
      if (!isObject(models)) throw wrong(file, `${name} must be an object of prices by model`)
      return [
        name,
        Object.entries(models).map(([model, price]) => [model, checked(file, `${name}.${model}`, price)] as const),
      ]
    }),
  )
  return (name, model, output) => {
    const price = priceOf(prices.get(name) ?? [], model)
    if (!price || output.promptTokens === null) return undefined
    const cached = output.cachedTokens ?? 0
    const prompt = output.promptTokens - cached
    const input = (prompt * price.input + cached * (price.cached_input ?? price.input)) / 1e6
    const made = (output.tokensGenerated * price.output) / 1e6
    return { input: rounded(input), output: rounded(made), total: rounded(input + made), currency }
  }
}

function priceOf(prices: readonly (readonly [model: string, price: Price])[], model: string): Price | undefined {
  const fitting = prices.filter(([name]) => (name.endsWith('*') ? model.startsWith(name.slice(0, -1)) : name === model))
  const rank = (name: string) => (name.endsWith('*') ? name.length - 1 : Number.POSITIVE_INFINITY)
  return fitting.sort(([a], [b]) => rank(b) - rank(a))[0]?.[1]
}

/** Without the dust of binary fractions. */
const rounded = (amount: number) => Number(amount.toPrecision(12))

function checked(file: string, place: string, price: unknown): Price {
  if (/\*./.test(place)) throw wrong(file, `${place}: a star may only stand at the end`)
  if (!isObject(price)) throw wrong(file, `${place} must be an object with input and output`)
  for (const field of ['input', 'output', 'cached_input']) {
    const value = price[field]
    if (field === 'cached_input' && value === undefined) continue
    if (typeof value !== 'number' || !(value >= 0))
      throw wrong(file, `${place}.${field} must be a number of 0 or more: the price of a million tokens`)
  }
  const unknown = Object.keys(price).find((field) => !['input', 'output', 'cached_input'].includes(field))
  if (unknown !== undefined)
    throw wrong(file, `${place} has no field "${unknown}"; there are input, output, cached_input`)
  return price as unknown as Price
}

function readObject(file: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw wrong(file, `can't be read as JSON: ${(error as Error).message}`)
  }
  if (!isObject(value)) throw wrong(file, 'must be an object of prices by provider and model')
  return value
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const wrong = (file: string, what: string) => new ConfigError(`MLX_TRAINING_PRICES, ${file}: ${what}`)

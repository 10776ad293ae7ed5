import { type GeneratePiece, ServiceError } from '@mlx-training/contract'
import { expect } from 'vitest'
import { type Config, loadConfig } from '../../src/config.ts'
import type { Engine } from '../../src/engine/port.ts'
import type { Models } from '../../src/models/port.ts'
import { createProviders, type Providers, type ProvidersDeps } from '../../src/providers/index.ts'
import type { GenerateInput, GenerateOutput } from '../../src/providers/port.ts'

export const KEY = 'sk-proj-abcdefghijklmnopqrstuvwxyz1234567890'

export const config = (env: Record<string, string>): Config => loadConfig(env, '/nowhere')

export const never = new AbortController().signal

export const ask = (input: Partial<GenerateInput> = {}): GenerateInput => ({
  model: 'gpt-4.1',
  messages: [{ role: 'user', content: 'Hello!' }],
  prompt: null,
  maxTokens: 100,
  temperature: 0.7,
  topP: 0.9,
  stop: [],
  seed: null,
  ...input,
})

export type Hosted = 'openai' | 'anthropic' | 'together' | 'ollama'
export const HOSTED: readonly Hosted[] = ['openai', 'anthropic', 'together', 'ollama']

/** Where a provider's API is, as its variable names it. */
export const baseOf = (name: Hosted, url: string) => (name === 'openai' || name === 'together' ? `${url}/v1` : url)

/** All providers with one of them at `url`. The local parts are never reached in these tests. */
export function hosted(
  name: Hosted,
  url: string,
  {
    look,
    env,
    ...options
  }: ProvidersDeps['hosted'] & { look?: ProvidersDeps['look']; env?: Record<string, string> } = {},
): Providers {
  const prefix = name.toUpperCase()
  return createProviders({
    config: config({ [`${prefix}_API_KEY`]: KEY, [`${prefix}_BASE_URL`]: url, ...env }),
    engine: { health: () => ({ state: 'ready' }) } as Engine,
    models: {} as Models,
    jobs: { get: async () => null },
    hosted: { retries: 0, backoffMs: 1, ...options },
    ...(look && { look }),
  })
}

/** What a client sees of a failure, after making sure that nothing of the key is anywhere in it. */
export async function failure(promise: Promise<unknown>): Promise<ServiceError> {
  const error = await promise.then(
    () => null,
    (error: unknown) => error,
  )
  if (!(error instanceof ServiceError)) throw new Error(`expected a ServiceError, got ${error}`)
  const seen = `${error.message} ${JSON.stringify(error)} ${error.stack} ${error.cause} ${JSON.stringify(error.cause)}`
  for (const part of [KEY, 'abcdefgh', 'stuvwxyz', '34567890', 'sk-pr', '7890']) expect(seen).not.toContain(part)
  return error
}

export async function collect(
  stream: AsyncGenerator<GeneratePiece, GenerateOutput>,
  texts: string[] = [],
): Promise<{ texts: string[]; output: GenerateOutput }> {
  let next = await stream.next()
  while (!next.done) {
    expect(next.value.index).toBe(0)
    texts.push(next.value.text)
    next = await stream.next()
  }
  return { texts, output: next.value }
}

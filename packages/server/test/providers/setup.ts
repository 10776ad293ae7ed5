import { type Config, loadConfig } from '../../src/config.ts'
import type { GenerateInput } from '../../src/providers/port.ts'

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

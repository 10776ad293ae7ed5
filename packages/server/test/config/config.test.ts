import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ConfigError, loadConfig, redacted } from '../../src/config.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mlx-training-config-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const load = (env: Record<string, string> = {}) => loadConfig(env, folder)

test('defaults', () => {
  expect(load()).toMatchObject({
    host: '127.0.0.1',
    port: 8200,
    home: join(folder, 'data'),
    apiKey: null,
    requireAuth: false,
    kernels: true,
    maxConcurrentJobs: 1,
    roots: { datasets: [folder, homedir()], outputs: [folder, homedir()], models: [folder, homedir()] },
    providers: { ollama: { baseUrl: 'http://127.0.0.1:11434' } },
  })
})

test('relative paths start in the working folder, empty values count as unset', () => {
  expect(load({ MLX_TRAINING_HOME: 'x/y', PORT: ' ', MLX_TRAINING_DATASET_ROOTS: 'a:/b' })).toMatchObject({
    home: join(folder, 'x/y'),
    port: 8200,
    roots: { datasets: [join(folder, 'a'), '/b'] },
  })
})

test.each([
  [{ PORT: 'http' }, /PORT must be a whole number from 0 to 65535, not "http"/],
  [{ PORT: '70000' }, /PORT/],
  [{ MLX_TRAINING_MAX_CONCURRENT_JOBS: '0' }, /MLX_TRAINING_MAX_CONCURRENT_JOBS must be a whole number from 1/],
  [{ MLX_TRAINING_REQUIRE_AUTH: 'maybe' }, /MLX_TRAINING_REQUIRE_AUTH must be true or false, not "maybe"/],
  [{ LOG_LEVEL: 'loud' }, /LOG_LEVEL must be one of fatal/],
  [{ OPENAI_BASE_URL: 'ftp://x' }, /OPENAI_BASE_URL must be an http\(s\) URL/],
  [{ TOGETHER_BASE_URL: 'api.example' }, /TOGETHER_BASE_URL must be an http\(s\) URL, not "api\.example"/],
  [{ OLLAMA_HOST: 'ftp://x' }, /OLLAMA_HOST must be an http\(s\) URL/],
  [{ MLX_TRAINING_PROVIDER_RETRIES: '99' }, /MLX_TRAINING_PROVIDER_RETRIES must be a whole number from 0 to 10/],
])('%j is refused by name', (env, message) => {
  expect(() => load(env as Record<string, string>)).toThrow(ConfigError)
  expect(() => load(env as Record<string, string>)).toThrow(message)
})

test('what may be secret in a provider’s URL or key is refused without showing it', () => {
  for (const name of ['OPENAI_BASE_URL', 'OLLAMA_BASE_URL'])
    for (const url of [
      'https://me:private@a.example/v1',
      'https://private@a.example',
      'https://a.example/v1?key=private',
    ]) {
      expect(() => load({ [name]: url })).toThrow(new RegExp(`^${name} must be .* without user name, password, query`))
      expect(() => load({ [name]: url })).not.toThrow(/private/)
    }
  for (const key of ['sk-pri\nvate', 'sk pri vate', 'sk-privaté']) {
    expect(() => load({ ANTHROPIC_API_KEY: key })).toThrow(/^ANTHROPIC_API_KEY must be printable ASCII/)
    expect(() => load({ ANTHROPIC_API_KEY: key })).not.toThrow(/vat/)
  }
})

test.each([
  [{}, 'http://127.0.0.1:11434'],
  [{ OLLAMA_HOST: '0.0.0.0' }, 'http://127.0.0.1:11434'],
  [{ OLLAMA_HOST: 'box' }, 'http://box:11434'],
  [{ OLLAMA_HOST: 'box:80' }, 'http://box:80'],
  [{ OLLAMA_HOST: 'https://box/' }, 'https://box'],
  [{ OLLAMA_HOST: 'box', OLLAMA_BASE_URL: 'http://other:1/' }, 'http://other:1'],
])('Ollama by %j', (env, baseUrl) => expect(load(env as Record<string, string>).providers.ollama.baseUrl).toBe(baseUrl))

test('webhook receivers and their secret', () => {
  const key = `whsec_${Buffer.alloc(24).toString('base64')}`
  const urls = 'https://a.example/x?token=private, http://127.0.0.1:1/,https://a.example/x?token=private'
  const config = load({ MLX_TRAINING_WEBHOOK_URLS: urls, MLX_TRAINING_WEBHOOK_SECRET: key })
  expect(config.webhooks).toEqual({
    urls: ['https://a.example/x?token=private', 'http://127.0.0.1:1/'],
    signingKey: key,
  })
  expect(JSON.stringify(redacted(config))).not.toMatch(/private|whsec/)
  for (const bad of ['ftp://a', 'a.example', 'https://user:pass@a.example', 'https://user@a.example'])
    expect(() => load({ MLX_TRAINING_WEBHOOK_URLS: `http://ok,${bad}` })).toThrow(/WEBHOOK_URLS.*number 2 is not$/)
  for (const bad of ['secret', 'whsec_', 'whsec_c2hvcnQ=', `whsec_${'A'.repeat(100)}`, `${key}!`])
    expect(() => load({ MLX_TRAINING_WEBHOOK_SECRET: bad })).toThrow(/WEBHOOK_SECRET must be whsec_/)
})

test('the result can not be changed, and shows no secrets', () => {
  const config = load({ MLX_TRAINING_API_KEY: 'very secret', HF_TOKEN: 'hf_secret', OPENAI_API_KEY: 'sk-secret' })
  expect(() => Object.assign(config.roots.datasets, { 0: '/' })).toThrow(TypeError)
  expect(JSON.stringify(redacted(config))).not.toContain('secret')
  expect(redacted(config).apiKey).toBe('[set]')
})

describe('mlx-training.env', () => {
  const withFile = (content: string, env: Record<string, string> = {}) => {
    const file = join(folder, 'mlx-training.env')
    writeFileSync(file, content)
    try {
      return load(env)
    } finally {
      rmSync(file)
    }
  }

  test('has the same names; the environment wins', () => {
    const content = '# ours\nPORT=9000\nMLX_TRAINING_HOME="my data"\nOPENAI_API_KEY=sk-file\n'
    expect(withFile(content, { PORT: '9001' })).toMatchObject({
      port: 9001,
      home: join(folder, 'my data'),
      providers: { openai: { apiKey: 'sk-file' } },
    })
  })

  test('a name that there is not, and a value that may not be', () => {
    expect(() => withFile('MLX_TRAINING_HOEM=x')).toThrow(
      /mlx-training\.env: there is no setting MLX_TRAINING_HOEM; .*MLX_TRAINING_HOME/,
    )
    expect(() => withFile('PORT=x')).toThrow(/PORT must be/)
  })
})

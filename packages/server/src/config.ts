import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import util from 'node:util'

/** The checkout (or package) that this file runs from: packages/server/{src,dist}/config → root. */
export const PROJECT_ROOT = resolve(fileURLToPath(new URL('../../..', import.meta.url)))

export class ConfigError extends Error {}

export interface Config {
  readonly host: string
  readonly port: number
  /** Database, models, runs, snapshots, keys. */
  readonly home: string
  /** Relative client paths start here. */
  readonly cwd: string
  readonly apiKey: string | null
  readonly requireAuth: boolean
  /** Names beside loopback that a Host header may carry. */
  readonly allowedHosts: readonly string[]
  readonly databaseUrl: string | null
  readonly roots: {
    readonly datasets: readonly string[]
    readonly outputs: readonly string[]
    readonly models: readonly string[]
  }
  readonly maxConcurrentJobs: number
  readonly datasets: {
    readonly maxUploadBytes: number
    /** Of what a compressed file unpacks to. */
    readonly maxExpandedBytes: number
    /** Unpacked to packed. */
    readonly maxExpansionRatio: number
  }
  /** An engine process that gives no sign of life for so long has lost its job; it gives one every 2 s. */
  readonly leaseSeconds: number
  /** One that gives signs of life but makes no progress; 0: never. */
  readonly hangSeconds: number
  /** Of the generation process; null: what fits the machine, see docs/generation.md. */
  readonly generation: {
    readonly maxBatch: number
    readonly queue: number
    readonly prefillTokens: number
    readonly idleSeconds: number
    readonly modelsMb: number | null
    readonly adaptersMb: number | null
    readonly promptCacheMb: number | null
    readonly kvMb: number | null
    /** Of the time, that training gives way to answers; 0: it never does. */
    readonly yieldPercent: number
    /** At a stretch. */
    readonly yieldMs: number
  }
  readonly python: string
  /** Whether a CPU may compute with the fused ones. */
  readonly kernels: boolean
  readonly engineSource: string
  /** Models imported at set-up. */
  readonly bundledModels: string
  readonly hub: {
    readonly endpoint: string
    readonly token: string | null
    readonly cache: string
    readonly offline: boolean
  }
  /** Limits of one answer of a hosted provider. */
  readonly hosted: {
    readonly timeoutSeconds: number
    readonly firstByteSeconds: number
    readonly idleSeconds: number
    readonly retries: number
  }
  /** A JSON file, docs/providers.md; read when the providers are made. */
  readonly pricesFile: string | null
  readonly providers: {
    readonly openai: HostedConfig
    readonly anthropic: HostedConfig
    readonly together: HostedConfig
    readonly ollama: HostedConfig
  }
  readonly webhooks: {
    /** Receivers of jobs' ends. */
    readonly urls: readonly string[]
    /** null: generated and kept in home. */
    readonly signingKey: string | null
  }
  readonly logLevel: string
}

export interface HostedConfig {
  readonly apiKey: string | null
  readonly baseUrl: string
}

/** Standard Webhooks: whsec_ and 24 to 64 bytes in Base64. */
export function isWebhookSecret(text: string): boolean {
  const base64 = /^whsec_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$/.exec(text)?.[1]
  if (base64 === undefined) return false
  const { length } = Buffer.from(base64, 'base64')
  return length >= 24 && length <= 64
}

type Env = Record<string, string | undefined>

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/** In the working folder, optional: NAME=value lines with the names of the environment, which wins. */
export const CONFIG_FILE = 'mlx-training.env'

/** Reads the environment and the file once; the result is frozen. Throws ConfigError that names the setting and what it may be. */
export function loadConfig(environment: Env = process.env, cwd: string = process.cwd()): Config {
  const file = readConfigFile(join(cwd, CONFIG_FILE))
  const env = { ...file, ...environment }
  const known = new Set<string>()
  const text = (name: string) => {
    known.add(name)
    return env[name]?.trim() || null
  }
  const path = (name: string, fallback: string) => resolve(cwd, text(name) ?? fallback)
  const integer = (name: string, fallback: number, min: number, max: number) => {
    const given = text(name)
    if (given === null) return fallback
    const value = Number(given)
    if (!Number.isInteger(value) || value < min || value > max)
      throw new ConfigError(`${name} must be a whole number from ${min} to ${max}, not "${given}"`)
    return value
  }
  const megabytes = (name: string) => (text(name) === null ? null : integer(name, 0, 1, 10_000_000))
  const flag = (name: string, fallback: boolean) => {
    const given = text(name)?.toLowerCase()
    if (given === undefined) return fallback
    if (['1', 'true', 'yes', 'on'].includes(given)) return true
    if (['0', 'false', 'no', 'off'].includes(given)) return false
    throw new ConfigError(`${name} must be true or false, not "${given}"`)
  }
  const oneOf = (name: string, fallback: string, values: string[]) => {
    const given = text(name) ?? fallback
    if (!values.includes(given)) throw new ConfigError(`${name} must be one of ${values.join(', ')}, not "${given}"`)
    return given
  }
  const url = (name: string, fallback: string) => {
    const given = text(name) ?? fallback
    if (!/^https?:$/.test(URL.canParse(given) ? new URL(given).protocol : ''))
      throw new ConfigError(`${name} must be an http(s) URL, not "${given}"`)
    return given.replace(/\/+$/, '')
  }
  // A password in the URL would be shown wherever the host is; and the API's path is appended to it.
  const providerUrl = (name: string, given: string) => {
    const parsed = URL.canParse(given) ? new URL(given) : null
    if (parsed && (parsed.username || parsed.password || parsed.search || parsed.hash))
      throw new ConfigError(`${name} must be an http(s) URL without user name, password, query and fragment`)
    if (!parsed || !/^https?:$/.test(parsed.protocol))
      throw new ConfigError(`${name} must be an http(s) URL, not "${given}"`)
    return given.replace(/\/+$/, '')
  }
  const apiKey = (name: string) => {
    const given = text(name)
    if (given !== null && !/^[\x21-\x7e]+$/.test(given))
      throw new ConfigError(`${name} must be printable ASCII without blanks, to be sent in a header`)
    return given
  }
  const roots = (name: string) =>
    (text(name)?.split(delimiter).filter(Boolean) ?? [cwd, homedir()]).map((root) => resolve(cwd, root))
  const hosted = (prefix: string, baseUrl: string): HostedConfig => ({
    apiKey: apiKey(`${prefix}_API_KEY`),
    baseUrl: providerUrl(`${prefix}_BASE_URL`, text(`${prefix}_BASE_URL`) ?? baseUrl),
  })
  // What is wrong is told without the value: receivers' URLs and secrets are often secret themselves.
  const webhookUrls = (name: string) => {
    const urls = (text(name)?.split(',') ?? []).map((url) => url.trim()).filter(Boolean)
    for (const [index, url] of urls.entries()) {
      const parsed = URL.canParse(url) ? new URL(url) : null
      if (!parsed || !/^https?:$/.test(parsed.protocol) || parsed.username !== '' || parsed.password !== '')
        throw new ConfigError(
          `${name} must be http(s) URLs without user name and password, separated by commas; number ${index + 1} is not`,
        )
    }
    return [...new Set(urls)]
  }
  const webhookSecret = (name: string) => {
    const given = text(name)
    if (given !== null && !isWebhookSecret(given))
      throw new ConfigError(`${name} must be whsec_ followed by 24 to 64 random bytes in Base64`)
    return given
  }
  // As Ollama itself reads it: a port of its own, and every interface is what it listens on, not where to call it.
  const ollamaUrl = (host: string) => {
    if (host.includes('://')) return host
    const local = host.replace(/^0\.0\.0\.0(?=:|$)/, '127.0.0.1')
    return `http://${local}${/:\d+$/.test(local) ? '' : ':11434'}`
  }
  const ollama = (): HostedConfig => {
    const [given, host] = [text('OLLAMA_BASE_URL'), text('OLLAMA_HOST')]
    const baseUrl =
      given === null
        ? providerUrl('OLLAMA_HOST', ollamaUrl(host ?? '127.0.0.1'))
        : providerUrl('OLLAMA_BASE_URL', given)
    return { apiKey: null, baseUrl }
  }

  const config: Config = {
    host: text('HOST') ?? '127.0.0.1',
    port: integer('PORT', 8200, 0, 65535),
    home: path('MLX_TRAINING_HOME', './data'),
    cwd,
    apiKey: text('MLX_TRAINING_API_KEY'),
    requireAuth: flag('MLX_TRAINING_REQUIRE_AUTH', false),
    allowedHosts:
      text('MLX_TRAINING_ALLOWED_HOSTS')
        ?.split(',')
        .map((host) => host.trim().toLowerCase())
        .filter(Boolean) ?? [],
    databaseUrl: text('MLX_TRAINING_DATABASE_URL'),
    roots: {
      datasets: roots('MLX_TRAINING_DATASET_ROOTS'),
      outputs: roots('MLX_TRAINING_OUTPUT_ROOTS'),
      models: roots('MLX_TRAINING_MODEL_ROOTS'),
    },
    maxConcurrentJobs: integer('MLX_TRAINING_MAX_CONCURRENT_JOBS', 1, 1, 64),
    leaseSeconds: integer('MLX_TRAINING_LEASE_SECONDS', 60, 4, 3600),
    hangSeconds: integer('MLX_TRAINING_HANG_SECONDS', 1800, 0, 1_000_000),
    generation: {
      maxBatch: integer('MLX_TRAINING_GENERATION_MAX_BATCH', 16, 1, 256),
      queue: integer('MLX_TRAINING_GENERATION_QUEUE', 64, 1, 10_000),
      prefillTokens: integer('MLX_TRAINING_GENERATION_PREFILL_TOKENS', 128, 1, 100_000),
      idleSeconds: integer('MLX_TRAINING_GENERATION_IDLE_SECONDS', 600, 1, 1_000_000),
      modelsMb: megabytes('MLX_TRAINING_GENERATION_MODELS_MB'),
      adaptersMb: megabytes('MLX_TRAINING_GENERATION_ADAPTERS_MB'),
      promptCacheMb: megabytes('MLX_TRAINING_GENERATION_PROMPT_CACHE_MB'),
      kvMb: megabytes('MLX_TRAINING_GENERATION_KV_MB'),
      yieldPercent: integer('MLX_TRAINING_GENERATION_YIELD_PERCENT', 50, 0, 90),
      yieldMs: integer('MLX_TRAINING_GENERATION_YIELD_MS', 10_000, 1, 600_000),
    },
    datasets: {
      maxUploadBytes: integer('MLX_TRAINING_MAX_UPLOAD_BYTES', 5e9, 1, Number.MAX_SAFE_INTEGER),
      maxExpandedBytes: integer('MLX_TRAINING_MAX_EXPANDED_BYTES', 50e9, 1, Number.MAX_SAFE_INTEGER),
      maxExpansionRatio: integer('MLX_TRAINING_MAX_EXPANSION_RATIO', 200, 1, 2000),
    },
    python: path('MLX_TRAINING_PYTHON', join(PROJECT_ROOT, '.venv', 'bin', 'python')),
    kernels: flag('MLX_TRAINING_KERNELS', true),
    engineSource: join(PROJECT_ROOT, 'engine', 'src'),
    bundledModels: path('MLX_TRAINING_BUNDLED_MODELS', join(PROJECT_ROOT, '.models')),
    hub: {
      endpoint: url('HF_ENDPOINT', 'https://huggingface.co'),
      token: text('HF_TOKEN'),
      cache: path('HF_HUB_CACHE', join(text('HF_HOME') ?? join(homedir(), '.cache', 'huggingface'), 'hub')),
      offline: flag('HF_HUB_OFFLINE', false),
    },
    hosted: {
      timeoutSeconds: integer('MLX_TRAINING_PROVIDER_TIMEOUT_SECONDS', 600, 1, 86_400),
      firstByteSeconds: integer('MLX_TRAINING_PROVIDER_FIRST_BYTE_SECONDS', 60, 1, 3600),
      idleSeconds: integer('MLX_TRAINING_PROVIDER_IDLE_SECONDS', 60, 1, 3600),
      retries: integer('MLX_TRAINING_PROVIDER_RETRIES', 2, 0, 10),
    },
    pricesFile: text('MLX_TRAINING_PRICES') === null ? null : path('MLX_TRAINING_PRICES', ''),
    providers: {
      openai: hosted('OPENAI', 'https://api.openai.com/v1'),
      anthropic: hosted('ANTHROPIC', 'https://api.anthropic.com'),
      together: hosted('TOGETHER', 'https://api.together.xyz/v1'),
      ollama: ollama(),
    },
    webhooks: {
      urls: webhookUrls('MLX_TRAINING_WEBHOOK_URLS'),
      signingKey: webhookSecret('MLX_TRAINING_WEBHOOK_SECRET'),
    },
    logLevel: oneOf('LOG_LEVEL', 'info', LOG_LEVELS),
  }
  refuseUnknown(file, known)
  return deepFreeze(config)
}

function readConfigFile(path: string): Env {
  if (!existsSync(path)) return {}
  if (util.parseEnv === undefined)
    throw new ConfigError(`${path} needs Node 20.12 or newer to be read; this is ${process.version}`)
  try {
    return util.parseEnv(readFileSync(path, 'utf8')) as Env
  } catch (error) {
    throw new ConfigError(`${path} can't be read: ${(error as Error).message}`)
  }
}

/** A mistyped name in the environment can't be told from a stranger's; in our own file it can. */
function refuseUnknown(file: Env, known: Set<string>): void {
  const unknown = Object.keys(file).find((name) => !known.has(name))
  if (unknown !== undefined)
    throw new ConfigError(`${CONFIG_FILE}: there is no setting ${unknown}; there are ${[...known].join(', ')}`)
}

const SECRET = ['apiKey', 'token', 'databaseUrl', 'signingKey']

/** The configuration without secrets, for the log. Of webhooks' receivers, whose paths often are secrets, the origins. */
export function redacted(config: Config): Record<string, unknown> {
  return JSON.parse(
    JSON.stringify(config, (key, value) => {
      if (key === 'urls') return (value as string[]).map((url) => new URL(url).origin)
      return SECRET.includes(key) && value !== null ? '[set]' : value
    }),
  )
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (inner && typeof inner === 'object') deepFreeze(inner)
  return Object.freeze(value)
}

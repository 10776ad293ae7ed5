/** Which server, with which key, and how to print. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { MlxTraining } from '@mlx-training/sdk'
import { Stop } from './exit.ts'

export interface GlobalOptions {
  url?: string
  key?: string
  json?: boolean
}

export interface Session {
  client: MlxTraining
  url: string
  /** The server runs on this machine, so that it sees the same files. */
  local: boolean
  json: boolean
}

/**
 * Flags win over the environment, that over `mlx-training.env` in this folder (which the server reads as well). Without a
 * key, the one that a local server made for itself is taken.
 */
export function sessionOf(options: GlobalOptions): Session {
  const env = { ...fileEnv('mlx-training.env'), ...process.env }
  const url = options.url ?? env.MLX_TRAINING_URL ?? `http://127.0.0.1:${env.PORT || 8200}`
  if (!URL.canParse(url) || !/^https?:/.test(url)) throw new Stop(`--url ${url}: write it as http://host:port`)
  const local = isLocal(url)
  const key = options.key ?? env.MLX_TRAINING_API_KEY ?? (local ? madeKey(env.MLX_TRAINING_HOME ?? 'data') : undefined)
  const client = new MlxTraining({ baseURL: url, ...(key !== undefined && { apiKey: key }) })
  return { client, url, local, json: options.json ?? false }
}

const isLocal = (url: string) => ['127.0.0.1', 'localhost', '[::1]'].includes(new URL(url).hostname)

function fileEnv(path: string): NodeJS.Dict<string> {
  const text = read(path)
  return text === undefined ? {} : parseEnv(text)
}

const madeKey = (home: string) => read(join(home, 'admin.key'))?.trim()

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

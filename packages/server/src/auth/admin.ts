import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Config, ConfigError } from '../config.ts'

export interface AdminKey {
  key: string
  /** Where it is kept; null when it comes from the configuration. */
  file: string | null
  /** Made just now: the only time that it is shown. */
  fresh: boolean
  /** The file could be read by others, and has been closed to them. */
  wasOpen: boolean
}

/** The configured admin key, or the one in `$home/admin.key`, made at the first start. ConfigError when the file is damaged. */
export async function adminKey(config: Pick<Config, 'apiKey' | 'home'>): Promise<AdminKey> {
  if (config.apiKey !== null) return { key: config.apiKey, file: null, fresh: false, wasOpen: false }
  await mkdir(config.home, { recursive: true, mode: 0o700 })
  const file = join(config.home, 'admin.key')
  const kept = await keptKey(file)
  if (kept) return kept
  const key = `mt_admin_${randomBytes(32).toString('hex')}`
  const handle = await open(file, 'wx', 0o600)
  try {
    await handle.writeFile(`${key}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  return { key, file, fresh: true, wasOpen: false }
}

async function keptKey(file: string): Promise<AdminKey | null> {
  const info = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (!info) return null
  const wasOpen = (info.mode & 0o077) !== 0
  if (wasOpen) await chmod(file, 0o600)
  const key = (await readFile(file, 'utf8')).trim()
  if (key.length < 16)
    throw new ConfigError(`${file} holds no usable key: delete it for a new one, or set MLX_TRAINING_API_KEY`)
  return { key, file, fresh: false, wasOpen }
}

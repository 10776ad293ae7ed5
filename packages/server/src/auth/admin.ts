import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { keepSecret } from './secret-file.ts'

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
  const { secret, ...kept } = await keepSecret(
    join(config.home, 'admin.key'),
    () => `mt_admin_${randomBytes(32).toString('hex')}`,
    (key) => key.length >= 16,
    'MLX_TRAINING_API_KEY',
  )
  return { key: secret, ...kept }
}

import { chmod, mkdir, open, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ConfigError } from '../config.ts'

export interface KeptSecret {
  secret: string
  file: string
  /** Made just now: the only time that it is shown. */
  fresh: boolean
  /** The file could be read by others, and has been closed to them. */
  wasOpen: boolean
}

/**
 * The secret in `file`, made and synced there with mode 0600 when there is none. ConfigError when what is there is not
 * `usable`; `setting` is what the user may set instead.
 */
export async function keepSecret(
  file: string,
  make: () => string,
  usable: (secret: string) => boolean,
  setting: string,
): Promise<KeptSecret> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const info = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (!info) {
    const secret = make()
    await write(file, secret)
    return { secret, file, fresh: true, wasOpen: false }
  }
  const wasOpen = (info.mode & 0o077) !== 0
  if (wasOpen) await chmod(file, 0o600)
  const secret = (await readFile(file, 'utf8')).trim()
  if (!usable(secret)) throw new ConfigError(`${file} holds no usable key: delete it for a new one, or set ${setting}`)
  return { secret, file, fresh: false, wasOpen }
}

async function write(file: string, secret: string): Promise<void> {
  const handle = await open(file, 'wx', 0o600)
  try {
    await handle.writeFile(`${secret}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

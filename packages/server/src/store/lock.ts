/** lockHome: one server a home folder. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { ConfigError } from '../config.ts'
import { type Database, openDatabase } from './database.ts'

export interface HomeLock {
  release(): void
}

/**
 * Holds `home` for this process by SQLite's own file lock, for Node has none: the kernel frees it however the process
 * ends, and a lock left behind by a dead process can't exist. Throws ConfigError, one line, when another server holds it.
 */
export function lockHome(home: string): HomeLock {
  const path = join(home, 'server.lock')
  let lock: Database | undefined
  try {
    mkdirSync(home, { recursive: true, mode: 0o700 })
    lock = openDatabase(path, 0)
    lock.pragma('locking_mode = EXCLUSIVE')
    lock.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    lock?.close()
    if (error instanceof Error && 'code' in error && error.code === 'SQLITE_BUSY')
      throw new ConfigError(
        `Another server is using ${home}: stop it, or set MLX_TRAINING_HOME to another folder for this one`,
      )
    throw new ConfigError(
      `${home} can't be used: ${error instanceof Error ? error.message : error}. Set MLX_TRAINING_HOME to a folder that can be written`,
      { cause: error },
    )
  }
  return { release: () => lock.close() }
}

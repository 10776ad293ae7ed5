/** openSqliteStore: the embedded driver. */
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { CompiledQuery, type DatabaseConnection, Kysely, SqliteDialect, SqliteDriver } from 'kysely'
import { ConfigError } from '../config.ts'
import { failpoint } from '../files/failpoints.ts'
import { type Database, openDatabase } from './database.ts'
import { migrate, NewerSchemaError } from './migrations/index.ts'
import type { Store, StoreOptions } from './port.ts'
import { createStore, type Driver } from './queries.ts'
import type { Tables } from './schema.ts'

/**
 * Opens the database file, making it (mode 0600) and bringing its schema up to date. Every commit is on the disk when it
 * returns: WAL with synchronous=FULL. Throws ConfigError, one line, when the file can't be used.
 */
export async function openSqliteStore(path: string, options: StoreOptions = {}): Promise<Store> {
  let database: Database | undefined
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    // Made here, because SQLite would make it by the umask; -wal and -shm take the mode of the main file.
    closeSync(openSync(path, 'a', 0o600))
    chmodSync(path, 0o600)
    database = openDatabase(path)
    database.pragma('journal_mode = WAL')
    database.pragma('synchronous = FULL')
    database.pragma('foreign_keys = ON')
    const driver = sqliteDriver(database, options)
    await migrate(driver.db as Kysely<unknown>)
    return createStore(driver, options)
  } catch (error) {
    database?.close()
    throw new ConfigError(`The database ${path} can't be opened: ${explain(error)}`, { cause: error })
  }
}

function explain(error: unknown): string {
  if (error instanceof NewerSchemaError)
    return `a newer version of this program made it (${error.message}). Update the program, or set MLX_TRAINING_HOME to another folder`
  const code = codeOf(error)
  if (code.startsWith('SQLITE_NOTADB') || code.startsWith('SQLITE_CORRUPT'))
    return 'it is damaged or no SQLite database. Restore it from a backup, or move it away to start anew'
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code.startsWith('SQLITE_READONLY'))
    return 'no permission to write there. Set MLX_TRAINING_HOME to a folder of your own'
  if (code === 'ENOSPC' || code === 'SQLITE_FULL') return 'the disk is full'
  if (code.startsWith('SQLITE_BUSY')) return 'another program holds it locked'
  return error instanceof Error ? error.message : String(error)
}

/** An open database as the shared queries want it. */
export function sqliteDriver(database: Database, { onQuery }: StoreOptions = {}): Driver {
  return {
    db: new Kysely<Tables>({
      dialect: new Dialect(database),
      ...(onQuery && {
        log: ({ query, queryDurationMillis }) => onQuery(operation(query.sql), queryDurationMillis / 1000),
      }),
    }),
    classify(error) {
      const code = codeOf(error)
      if (code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY') return 'unique'
      if (FULL.has(code)) return 'full'
      if (code.startsWith('SQLITE_BUSY')) return 'busy'
      return 'other'
    },
  }
}

/** SQLite tells a full disk at a write, at the sync after it, and where its index beside the log grows. */
const FULL = new Set(['SQLITE_FULL', 'SQLITE_IOERR_WRITE', 'SQLITE_IOERR_FSYNC', 'SQLITE_IOERR_SHMSIZE', 'ENOSPC'])

/** The statement's first word: select, insert, begin, commit … */
const operation = (statement: string) => /^\w+/.exec(statement)?.[0].toLowerCase() ?? 'other'

class Dialect extends SqliteDialect {
  readonly #database: Database

  constructor(database: Database) {
    super({ database })
    this.#database = database
  }

  override createDriver(): SqliteDriver {
    return new Transactions(this.#database)
  }
}

class Transactions extends SqliteDriver {
  readonly #database: Database

  constructor(database: Database) {
    super({ database })
    this.#database = database
  }

  // Ours read before they write: taking the write lock only then fails at once when another program has written meanwhile.
  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin immediate'))
  }

  override async commitTransaction(connection: DatabaseConnection): Promise<void> {
    failpoint('store.commit')
    await super.commitTransaction(connection)
    failpoint('store.committed')
  }

  // SQLite has rolled back by itself when the disk was full; doing it again would fail and hide that error.
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (this.#database.inTransaction) await super.rollbackTransaction(connection)
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

/** openDatabase: one SQLite connection, by Node's own node:sqlite where it is complete, by better-sqlite3 before that. */
import { createRequire } from 'node:module'
import type { SqliteDatabase, SqliteStatement } from 'kysely'

/** What the store needs of a connection. Failures are errors whose `code` is SQLite's name, e.g. SQLITE_BUSY. */
export interface Database extends SqliteDatabase {
  exec(sql: string): void
  /** The first value of the pragma's answer. */
  pragma(text: string): unknown
  readonly inTransaction: boolean
}

/** Which of the two this Node gets. */
export const SQLITE = builtIn() ? 'node:sqlite' : 'better-sqlite3'

/** `busyMs`: how long a lock of another connection is waited for. */
export function openDatabase(path: string, busyMs = 5000): Database {
  const BuiltIn = builtIn()
  const database = BuiltIn ? new BuiltInDatabase(BuiltIn, path) : betterSqlite(path)
  database.pragma(`busy_timeout = ${busyMs}`)
  rememberStatements(database)
  return database
}

/** Texts of statements, which differ by how many rows and values they hold. */
const REMEMBERED = 100

/** Compiling a statement takes as long as a short one takes to run. SQLite compiles those whose tables change anew. */
function rememberStatements(database: Database): void {
  const known = new Map<string, SqliteStatement>()
  const prepare = database.prepare.bind(database)
  database.prepare = (sql) => {
    const statement = known.get(sql) ?? prepare(sql)
    known.delete(sql)
    known.set(sql, statement)
    if (known.size > REMEMBERED) known.delete(known.keys().next().value as string)
    return statement
  }
}

interface DatabaseSync {
  exec(sql: string): void
  prepare(sql: string): StatementSync
  close(): void
  readonly isTransaction: boolean
}
type DatabaseSyncClass = new (path: string) => DatabaseSync
interface StatementSync {
  all(...parameters: unknown[]): unknown[]
  run(...parameters: unknown[]): { changes: number | bigint; lastInsertRowid: number | bigint }
  iterate(...parameters: unknown[]): IterableIterator<unknown>
  columns(): unknown[]
}

/** node:sqlite from Node 22.16 and 24 on; older ones lack parts of it. */
function builtIn(): DatabaseSyncClass | null {
  const warn = process.emitWarning
  // Node 22 and 24 call the module experimental whenever it is loaded; what we use of it is tested on both.
  process.emitWarning = () => {}
  try {
    const { DatabaseSync } = createRequire(import.meta.url)('node:sqlite') as { DatabaseSync: DatabaseSyncClass }
    const probe = new DatabaseSync(':memory:')
    const complete = 'isTransaction' in probe && 'columns' in probe.prepare('SELECT 1')
    probe.close()
    return complete ? DatabaseSync : null
  } catch {
    return null
  } finally {
    process.emitWarning = warn
  }
}

class BuiltInDatabase implements Database {
  readonly #connection: DatabaseSync

  constructor(Connection: DatabaseSyncClass, path: string) {
    this.#connection = named(() => new Connection(path))
  }

  get inTransaction(): boolean {
    return this.#connection.isTransaction
  }

  exec(sql: string): void {
    named(() => this.#connection.exec(sql))
  }

  pragma(text: string): unknown {
    return Object.values(named(() => this.#connection.prepare(`PRAGMA ${text}`).all())[0] ?? {})[0]
  }

  prepare(sql: string): SqliteStatement {
    const statement = named(() => this.#connection.prepare(sql))
    return {
      reader: statement.columns().length > 0,
      all: (parameters) => named(() => statement.all(...parameters)),
      run: (parameters) => named(() => statement.run(...parameters)),
      iterate: (parameters) => statement.iterate(...parameters),
    }
  }

  close(): void {
    this.#connection.close()
  }
}

/** Runs `work`; an error of node:sqlite, which has SQLite's number in `errcode`, gets its name as `code`. */
function named<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof Error && 'errcode' in error && typeof error.errcode === 'number')
      Object.assign(error, {
        code: RESULT_CODES[error.errcode] ?? RESULT_CODES[error.errcode & 0xff] ?? 'SQLITE_ERROR',
      })
    throw error
  }
}

/** https://sqlite.org/rescode.html, those that are told apart here; the low byte of an extended code is its kind. */
const RESULT_CODES: Record<number, string> = {
  5: 'SQLITE_BUSY',
  8: 'SQLITE_READONLY',
  10: 'SQLITE_IOERR',
  778: 'SQLITE_IOERR_WRITE',
  1034: 'SQLITE_IOERR_FSYNC',
  4874: 'SQLITE_IOERR_SHMSIZE',
  11: 'SQLITE_CORRUPT',
  13: 'SQLITE_FULL',
  14: 'SQLITE_CANTOPEN',
  26: 'SQLITE_NOTADB',
  1555: 'SQLITE_CONSTRAINT_PRIMARYKEY',
  2067: 'SQLITE_CONSTRAINT_UNIQUE',
}

/** Loaded only where it is needed: its versions before 13 crash on Node 24.19 and later, and 13 needs Node 22. */
function betterSqlite(path: string): Database {
  const BetterSqlite = createRequire(import.meta.url)('better-sqlite3') as typeof import('better-sqlite3')
  const connection = new BetterSqlite(path)
  return {
    prepare: (sql) => connection.prepare(sql),
    exec: (sql) => void connection.exec(sql),
    pragma: (text) => connection.pragma(text, { simple: true }),
    close: () => void connection.close(),
    get inTransaction() {
      return connection.inTransaction
    },
  }
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Kysely } from 'kysely'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ConfigError } from '../../src/config.ts'
import { openDatabase, SQLITE } from '../../src/store/database.ts'
import { lockHome } from '../../src/store/lock.ts'
import { MIGRATIONS, migrate } from '../../src/store/migrations/index.ts'
import { createStore } from '../../src/store/queries.ts'
import { openSqliteStore, sqliteDriver } from '../../src/store/sqlite.ts'
import { newJob } from '../jobs/jobs.ts'
import { storeConformance } from './conformance.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'store-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const path = () => join(home, 'deep', 'server.db')
const refusal = async (file: string) => {
  const error: unknown = await openSqliteStore(file).then(
    () => expect.fail('it opened'),
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(ConfigError)
  const { message } = error as ConfigError
  expect(message).toContain(file)
  expect(message).not.toContain('\n')
  return message
}

storeConformance(SQLITE, (options) => openSqliteStore(path(), options))

describe('the sqlite driver', () => {
  it('commits durably to files that only their owner can read', async () => {
    const store = await openSqliteStore(path())
    await store.insertJob(newJob('a'), [])
    for (const suffix of ['', '-wal', '-shm']) expect(statSync(path() + suffix).mode & 0o777).toBe(0o600)
    expect(statSync(join(home, 'deep')).mode & 0o777).toBe(0o700)
    await store.close()
  })

  it('finds everything again, and migrates once', async () => {
    const first = await openSqliteStore(path())
    const job = await first.insertJob(newJob('a'), [{ type: 'log', data: { lines: ['ü'] } }])
    await first.close()
    const second = await openSqliteStore(path())
    expect(await second.job('a')).toEqual(job)
    expect(await second.eventsAfter(job.id, 0, 9)).toHaveLength(1)
    await second.close()
  })

  it('makes up for migrations that another branch of this program has not had', async () => {
    const missing = MIGRATIONS.filter(({ name }) => !name.startsWith('0002'))
    mkdirSync(join(home, 'deep'))
    const older = openDatabase(path())
    await migrate(sqliteDriver(older).db as Kysely<unknown>, missing)
    older.close()
    const store = await openSqliteStore(path())
    expect(await store.removals()).toEqual([])
    await store.close()
    await (await openSqliteStore(path())).close()
  })

  it('says in one line why a file is not taken', async () => {
    const damaged = join(home, 'damaged.db')
    writeFileSync(damaged, 'this is no database, and long enough to be read as a header of one '.repeat(20))
    expect(await refusal(damaged)).toContain('damaged or no SQLite database')

    const newer = join(home, 'newer.db')
    await (await openSqliteStore(newer)).close()
    const database = openDatabase(newer)
    database.exec("INSERT INTO schema_migrations VALUES (99, '0099_future', '')")
    database.close()
    expect(await refusal(newer)).toContain('a newer version of this program made it (migration 0099_future')

    expect(await refusal(join(damaged, 'x.db'))).toContain('EEXIST')
  })

  it('turns a full disk into insufficient_storage and goes on when there is room', async () => {
    const store = await openSqliteStore(path())
    const job = await store.insertJob(newJob('a'), [])
    await store.close()
    const lines = ['x'.repeat(100_000)]
    // SQLite's own limit stands in for the disk's.
    const database = openDatabase(path())
    const pages = database.pragma('page_count')
    database.pragma(`max_page_count = ${pages}`)
    const full = createStore(sqliteDriver(database))
    await expect(
      full.update(job.id, null, () => ({ change: {}, events: [{ type: 'log', data: { lines } }] })),
    ).rejects.toMatchObject({ code: 'insufficient_storage' })
    expect(await full.jobById(job.id)).toMatchObject({ lastEventId: 0 })
    await expect(full.insertJob(newJob('b'.repeat(100), `/${'c'.repeat(100_000)}`), [])).rejects.toMatchObject({
      code: 'insufficient_storage',
    })
    database.pragma('max_page_count = 100000')
    expect(
      await full.update(job.id, null, () => ({ change: {}, events: [{ type: 'log', data: { lines } }] })),
    ).toMatchObject({
      lastEventId: 1,
    })
    await full.close()
  })
})

describe('lockHome', () => {
  it('keeps a second server out until the first is gone', () => {
    const first = lockHome(home)
    expect(() => lockHome(home)).toThrow(/^Another server is using .*: stop it, or set MLX_TRAINING_HOME to .*$/)
    first.release()
    lockHome(home).release()
  })

  it('is free again after kill -9', async () => {
    // The built code, as in the server: a lock held by another process.
    const lock = new URL('../../dist/store/lock.js', import.meta.url).href
    const hold = `const { lockHome } = await import(process.argv[1]); lockHome(process.argv[2]); console.log('held'); setInterval(() => {}, 1000)`
    const holder = spawn(process.execPath, ['--input-type=module', '-e', hold, lock, home], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(holder.stdout, 'data')
    expect(() => lockHome(home)).toThrow(ConfigError)
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    lockHome(home).release()
  })

  it('names a folder that can not be written', () => {
    writeFileSync(join(home, 'file'), '')
    expect(() => lockHome(join(home, 'file'))).toThrow(/can't be used: .*MLX_TRAINING_HOME/)
  })
})

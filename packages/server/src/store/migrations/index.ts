import type { Kysely } from 'kysely'
import * as initial from './0001_initial.ts'
import * as queue from './0002_queue.ts'
import * as webhooks from './0003_webhooks.ts'
import * as datasets from './0004_datasets.ts'
import * as evaluations from './0005_evaluations.ts'
import * as keyUse from './0006_key_use.ts'

export interface Migration {
  name: string
  up(db: Kysely<unknown>): Promise<void>
}

/** In order, never changed once released; a database records which it has had. */
export const MIGRATIONS: readonly Migration[] = [
  { name: '0001_initial', up: initial.up },
  { name: '0002_queue', up: queue.up },
  { name: '0003_webhooks', up: webhooks.up },
  { name: '0004_datasets', up: datasets.up },
  { name: '0005_evaluations', up: evaluations.up },
  { name: '0006_key_use', up: keyUse.up },
]

/** The database was made by a newer version of this program. */
export class NewerSchemaError extends Error {}

/**
 * Brings the schema up to date in one transaction, so that a kill in between leaves the old one. Kysely's own Migrator
 * runs without a transaction on SQLite. Throws NewerSchemaError when one was applied that is not known.
 */
export async function migrate(db: Kysely<unknown>, migrations = MIGRATIONS): Promise<void> {
  await db.transaction().execute(async (trx) => {
    await trx.schema
      .createTable('schema_migrations')
      .ifNotExists()
      .addColumn('number', 'integer', (c) => c.primaryKey())
      .addColumn('name', 'text', (c) => c.notNull())
      .addColumn('applied_at', 'text', (c) => c.notNull())
      .execute()
    const history = trx.withTables<{
      schema_migrations: { number: number; name: string; applied_at: string }
    }>()
    const applied = await history.selectFrom('schema_migrations').select(['number', 'name']).orderBy('number').execute()
    const strange = applied.find(({ name }) => migrations.every((known) => known.name !== name))
    if (strange) throw new NewerSchemaError(`migration ${strange.name} is not known here`)
    let number = applied.at(-1)?.number ?? 0
    for (const { name, up } of migrations) {
      if (applied.some((one) => one.name === name)) continue
      await up(trx)
      await history
        .insertInto('schema_migrations')
        .values({ number: ++number, name, applied_at: new Date().toISOString() })
        .execute()
    }
  })
}

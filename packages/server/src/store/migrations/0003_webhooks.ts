import type { Kysely } from 'kysely'

/** Messages that have not been delivered yet. They outlive their jobs: an experiment may be deleted before that. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('outbox')
    .addColumn('id', 'text', (c) => c.notNull())
    .addColumn('url', 'text', (c) => c.notNull())
    .addColumn('body', 'text', (c) => c.notNull())
    .addColumn('attempts', 'integer', (c) => c.notNull())
    .addColumn('due_at', 'text', (c) => c.notNull())
    .addPrimaryKeyConstraint('outbox_key', ['id', 'url'])
    .execute()
  await db.schema.createIndex('outbox_due').on('outbox').columns(['url', 'due_at']).execute()
}

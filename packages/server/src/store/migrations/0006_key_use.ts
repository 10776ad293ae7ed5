import type { Kysely } from 'kysely'

/** When an API key was last used. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('api_keys').addColumn('last_used_at', 'text').execute()
}

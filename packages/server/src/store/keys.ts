/** API keys. */
import type { Kysely } from 'kysely'
import type { Store } from './port.ts'
import { fromKey, type Tables, toKey } from './schema.ts'
import type { Transact } from './transact.ts'

export function createKeys(
  db: Kysely<Tables>,
  transact: Transact,
): Pick<Store, 'key' | 'keys' | 'insertKey' | 'revokeKey' | 'keyUsed'> {
  return {
    async key(id) {
      const row = await db.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst()
      return row ? toKey(row) : null
    },

    async keys() {
      const rows = await db
        .selectFrom('api_keys')
        .selectAll()
        .where('revoked_at', 'is', null)
        .orderBy('created_at')
        .orderBy('id')
        .execute()
      return rows.map(toKey)
    },

    async insertKey(key) {
      await transact((trx) => trx.insertInto('api_keys').values(fromKey(key)).execute())
    },

    revokeKey: (id, at) =>
      transact(async (trx) => {
        const row = await trx
          .updateTable('api_keys')
          .set({ revoked_at: at })
          .where('id', '=', id)
          .where('revoked_at', 'is', null)
          .returningAll()
          .executeTakeFirst()
        return row ? toKey(row) : null
      }),

    async keyUsed(id, at) {
      await transact((trx) => trx.updateTable('api_keys').set({ last_used_at: at }).where('id', '=', id).execute())
    },
  }
}

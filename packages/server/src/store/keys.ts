/** API keys. */
import type { Kysely } from 'kysely'
import type { Store } from './port.ts'
import { fromKey, type Tables, toKey } from './schema.ts'
import type { Transact } from './transact.ts'

export function createKeys(db: Kysely<Tables>, transact: Transact): Pick<Store, 'key' | 'keys' | 'putKey'> {
  return {
    async key(id) {
      const row = await db.selectFrom('api_keys').selectAll().where('id', '=', id).executeTakeFirst()
      return row ? toKey(row) : null
    },

    async keys() {
      const rows = await db.selectFrom('api_keys').selectAll().orderBy('created_at').orderBy('id').execute()
      return rows.map(toKey)
    },

    async putKey(key) {
      const { id, ...columns } = fromKey(key)
      await transact((trx) =>
        trx
          .insertInto('api_keys')
          .values({ id, ...columns })
          .onConflict((conflict) => conflict.column('id').doUpdateSet(columns))
          .execute(),
      )
    },
  }
}

/** Messages to webhook receivers, from the end of their job to their delivery. */
import type { Kysely, Transaction } from 'kysely'
import type { NewDelivery, Outbox } from './port.ts'
import type { Tables } from './schema.ts'
import type { Transact } from './transact.ts'

export function createOutbox(db: Kysely<Tables>, transact: Transact): Outbox {
  return {
    async due(url, at, limit) {
      const rows = await db
        .selectFrom('outbox')
        .selectAll()
        .where('url', '=', url)
        .where('due_at', '<=', at)
        .orderBy('due_at')
        .limit(limit)
        .execute()
      return rows.map(({ due_at: dueAt, ...row }) => ({ ...row, dueAt }))
    },

    async nextDue(url, after) {
      const next = await db
        .selectFrom('outbox')
        .select((eb) => eb.fn.min('due_at').as('at'))
        .where('url', '=', url)
        .where('due_at', '>', after)
        .executeTakeFirst()
      return next?.at ?? null
    },

    async postpone({ id, url }, attempts, dueAt) {
      await transact((trx) =>
        trx
          .updateTable('outbox')
          .set({ attempts, due_at: dueAt })
          .where('id', '=', id)
          .where('url', '=', url)
          .execute(),
      )
    },

    async remove({ id, url }) {
      await transact((trx) => trx.deleteFrom('outbox').where('id', '=', id).where('url', '=', url).execute())
    },

    async keepOnly(urls) {
      const [{ numDeletedRows }] = (await transact((trx) =>
        trx
          .deleteFrom('outbox')
          .$if(urls.length > 0, (query) => query.where('url', 'not in', urls))
          .execute(),
      )) as [{ numDeletedRows: bigint }]
      return Number(numDeletedRows)
    },

    async size() {
      const { n } = await db
        .selectFrom('outbox')
        .select((eb) => eb.fn.countAll<number>().as('n'))
        .executeTakeFirstOrThrow()
      return Number(n)
    },
  }
}

/** In the transaction that ends the job. */
export async function enqueue(trx: Transaction<Tables>, deliveries: NewDelivery[]): Promise<void> {
  if (deliveries.length === 0) return
  const due_at = new Date().toISOString()
  await trx
    .insertInto('outbox')
    .values(deliveries.map((delivery) => ({ ...delivery, attempts: 0, due_at })))
    .execute()
}

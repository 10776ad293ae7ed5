/** What was answered to requests with an Idempotency-Key. */
import { ServiceError } from '@mlx-training/contract'
import type { Kysely, Transaction } from 'kysely'
import type { KeptAnswer, Store } from './port.ts'
import type { Tables } from './schema.ts'

/** How long an answer is kept. */
export const KEPT_MILLISECONDS = 24 * 3600_000

const oldest = () => new Date(Date.now() - KEPT_MILLISECONDS).toISOString()

export function createAnswers(db: Kysely<Tables>): Pick<Store, 'answer'> {
  return {
    async answer(principal, key) {
      const row = await db
        .selectFrom('idempotency_keys')
        .select(['fingerprint', 'answer'])
        .where('principal', '=', principal)
        .where('key', '=', key)
        .where('created_at', '>', oldest())
        .executeTakeFirst()
      return row ? { fingerprint: row.fingerprint, answer: JSON.parse(row.answer) } : null
    },
  }
}

/** In the transaction that does what is answered. ServiceError('conflict') when another server has just done so. */
export async function keepAnswer(trx: Transaction<Tables>, { principal, key, ...kept }: KeptAnswer): Promise<void> {
  await trx.deleteFrom('idempotency_keys').where('created_at', '<=', oldest()).execute()
  const taken = await trx
    .selectFrom('idempotency_keys')
    .select('key')
    .where('principal', '=', principal)
    .where('key', '=', key)
    .executeTakeFirst()
  if (taken)
    throw new ServiceError('conflict', 'A request with this Idempotency-Key was carried out just now: send it again', {
      retryAfter: 1,
    })
  await trx
    .insertInto('idempotency_keys')
    .values({
      principal,
      key,
      fingerprint: kept.fingerprint,
      answer: JSON.stringify(kept.answer),
      created_at: new Date().toISOString(),
    })
    .execute()
}

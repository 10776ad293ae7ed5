/** Uploaded data sets, and which experiments used them. */
import { ServiceError } from '@mlx-training/contract'
import { type Kysely, type Selectable, sql, type Transaction } from 'kysely'
import type { JobPlan } from '../jobs/port.ts'
import type { DatasetRecord, DatasetStore, DatasetUse } from './port.ts'
import type { Tables } from './schema.ts'
import type { Transact } from './transact.ts'

export function createDatasetStore(db: Kysely<Tables>, transact: Transact): DatasetStore {
  return {
    insert: (dataset) =>
      transact(async (trx) => {
        const { id, identity, createdAt, ...record } = dataset
        const there = await trx.selectFrom('datasets').selectAll().where('identity', '=', identity).executeTakeFirst()
        if (there) return { dataset: toDataset(there), inserted: false }
        const { last } = await trx
          .selectFrom('datasets')
          .select((eb) => eb.fn.max('seq').as('last'))
          .executeTakeFirstOrThrow()
        await trx
          .insertInto('datasets')
          .values({
            id,
            identity,
            seq: Number(last ?? 0) + 1,
            record: JSON.stringify(record),
            created_at: createdAt,
          })
          .execute()
        return { dataset, inserted: true }
      }),

    async get(id) {
      const row = await db.selectFrom('datasets').selectAll().where('id', '=', id).executeTakeFirst()
      return row ? toDataset(row) : null
    },

    async byIdentity(identity) {
      const row = await db.selectFrom('datasets').selectAll().where('identity', '=', identity).executeTakeFirst()
      return row ? toDataset(row) : null
    },

    async list(limit, after) {
      let before: number | undefined
      if (after !== undefined) {
        const row = await db.selectFrom('datasets').select('seq').where('id', '=', after).executeTakeFirst()
        if (!row)
          throw new ServiceError('not_found', `There is no data set ${after} to go on after: list from the start`)
        before = row.seq
      }
      const rows = await db
        .selectFrom('datasets')
        .selectAll()
        .$if(before !== undefined, (query) => query.where('seq', '<', before as number))
        .orderBy('seq', 'desc')
        .limit(limit)
        .execute()
      return rows.map(toDataset)
    },

    async ids() {
      return (await db.selectFrom('datasets').select('id').execute()).map(({ id }) => id)
    },

    uses: (ids) => usesOf(db, ids),

    remove: (id) =>
      transact(async (trx) => {
        const row = await trx.selectFrom('datasets').selectAll().where('id', '=', id).executeTakeFirst()
        if (!row) return null
        const busy = (await usesOf(trx, [id])).get(id)?.find(({ ended }) => !ended)
        if (busy)
          throw new ServiceError(
            'conflict',
            `Experiment "${busy.name}" uses this data set and has not ended: stop it first, or delete the data set later`,
          )
        await trx.deleteFrom('datasets').where('id', '=', id).execute()
        return toDataset(row)
      }),
  }
}

/** One look at all jobs, however many are asked for. Plans that hold none of the ids as text are not even parsed. */
async function usesOf(
  db: Kysely<Tables> | Transaction<Tables>,
  ids: readonly string[],
): Promise<Map<string, DatasetUse[]>> {
  const [only] = ids
  const rows = await db
    .selectFrom('jobs')
    .select(['name', 'plan', 'completed_at'])
    .where(sql<boolean>`plan like ${ids.length === 1 ? `%"${only}"%` : '%"id":"ds%'}`)
    .orderBy('seq', 'desc')
    .execute()
  const uses = new Map(ids.map((id): [string, DatasetUse[]] => [id, []]))
  for (const { name, plan, completed_at } of rows) {
    const { dataset, validation }: JobPlan = JSON.parse(plan)
    for (const id of new Set([dataset.id, validation?.id]))
      if (id !== undefined) uses.get(id)?.push({ name, ended: completed_at !== null })
  }
  return uses
}

function toDataset(row: Selectable<Tables['datasets']>): DatasetRecord {
  return { id: row.id, identity: row.identity, createdAt: row.created_at, ...JSON.parse(row.record) }
}

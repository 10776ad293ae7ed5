/** Evaluations. One server writes them, and one of its parts. */
import { ServiceError } from '@mlx-training/contract'
import type { Kysely, Selectable } from 'kysely'
import type { EvaluationRecord, EvaluationStore } from './port.ts'
import type { Tables } from './schema.ts'
import type { Transact } from './transact.ts'

export function createEvaluationStore(db: Kysely<Tables>, transact: Transact): EvaluationStore {
  return {
    insert: (evaluation) =>
      transact(async (trx) => {
        const { last } = await trx
          .selectFrom('evaluations')
          .select((eb) => eb.fn.max('seq').as('last'))
          .executeTakeFirstOrThrow()
        await trx
          .insertInto('evaluations')
          .values({ ...columnsOf(evaluation), id: evaluation.id, seq: Number(last ?? 0) + 1 })
          .execute()
      }),

    async get(id) {
      const row = await db.selectFrom('evaluations').selectAll().where('id', '=', id).executeTakeFirst()
      return row ? toEvaluation(row) : null
    },

    async list(limit, after) {
      let before: number | undefined
      if (after !== undefined) {
        const row = await db.selectFrom('evaluations').select('seq').where('id', '=', after).executeTakeFirst()
        if (!row)
          throw new ServiceError('not_found', `There is no evaluation ${after} to go on after: list from the start`)
        before = row.seq
      }
      const rows = await db
        .selectFrom('evaluations')
        .selectAll()
        .$if(before !== undefined, (query) => query.where('seq', '<', before as number))
        .orderBy('seq', 'desc')
        .limit(limit)
        .execute()
      return rows.map(toEvaluation)
    },

    async unended() {
      const rows = await db
        .selectFrom('evaluations')
        .selectAll()
        .where('state', 'in', ['queued', 'running'])
        .orderBy('seq')
        .execute()
      return rows.map(toEvaluation)
    },

    async put(evaluation) {
      await transact((trx) =>
        trx.updateTable('evaluations').set(columnsOf(evaluation)).where('id', '=', evaluation.id).execute(),
      )
    },

    remove: (id) =>
      transact(async (trx) => {
        const row = await trx.deleteFrom('evaluations').where('id', '=', id).returningAll().executeTakeFirst()
        return row ? toEvaluation(row) : null
      }),
  }
}

function columnsOf({ id: _, state, ...record }: EvaluationRecord) {
  return { state, record: JSON.stringify(record) }
}

function toEvaluation({ id, state, record }: Selectable<Tables['evaluations']>): EvaluationRecord {
  return { id, state, ...JSON.parse(record) }
}

/** A job's history. */
import type { Kysely, Transaction } from 'kysely'
import type { NewEvent, Store } from './port.ts'
import { type Tables, toEvent } from './schema.ts'

export function createEvents(db: Kysely<Tables>): Pick<Store, 'eventsAfter' | 'eventsBefore'> {
  return {
    async eventsAfter(jobId, after, limit, types) {
      const rows = await db
        .selectFrom('events')
        .selectAll()
        .where('job_id', '=', jobId)
        .where('id', '>', after)
        .$if(types !== undefined, (query) => query.where('type', 'in', types ?? []))
        .orderBy('id')
        .limit(limit)
        .execute()
      return rows.map(toEvent)
    },

    async eventsBefore(jobId, before, limit) {
      const rows = await db
        .selectFrom('events')
        .selectAll()
        .where('job_id', '=', jobId)
        .where('id', '<', before)
        .orderBy('id', 'desc')
        .limit(limit)
        .execute()
      return rows.map(toEvent)
    },
  }
}

/** Numbered on from the job's `last`. */
export async function append(trx: Transaction<Tables>, jobId: string, last: number, events: NewEvent[]): Promise<void> {
  if (events.length === 0) return
  const at = new Date().toISOString()
  await trx
    .insertInto('events')
    .values(
      events.map(({ type, data }, index) => ({
        job_id: jobId,
        id: last + 1 + index,
        type,
        at,
        data: JSON.stringify(data),
      })),
    )
    .execute()
}

/** Experiments that are gone and whose files are still to be removed: written when the row goes, deleted after the files. */
import type { Kysely, Transaction } from 'kysely'
import type { Store } from './port.ts'
import { type Tables, toJob } from './schema.ts'
import type { Transact } from './transact.ts'

export function createRemovals(
  db: Kysely<Tables>,
  transact: Transact,
): Pick<Store, 'removeJob' | 'removals' | 'removed'> {
  return {
    async removeJob(name, check) {
      return transact(async (trx) => {
        const row = await trx.selectFrom('jobs').selectAll().where('name', '=', name).executeTakeFirst()
        if (!row) return null
        const job = toJob(row)
        check(job)
        await bury(trx, row)
        return job
      })
    },

    async removals() {
      const rows = await db.selectFrom('removals').selectAll().orderBy('removed_at').orderBy('job_id').execute()
      return rows.map((row) => ({ jobId: row.job_id, name: row.name, outputDir: row.output_dir }))
    },

    async removed(jobId) {
      await transact((trx) => trx.deleteFrom('removals').where('job_id', '=', jobId).execute())
    },
  }
}

/** Its events go with the row. */
export async function bury(
  trx: Transaction<Tables>,
  job: Pick<Tables['jobs'], 'id' | 'name' | 'output_dir'>,
): Promise<void> {
  await trx.deleteFrom('jobs').where('id', '=', job.id).execute()
  await trx
    .insertInto('removals')
    .values({ job_id: job.id, name: job.name, output_dir: job.output_dir, removed_at: new Date().toISOString() })
    .execute()
}

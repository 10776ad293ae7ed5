/**
 * The store over any SQL database that Kysely speaks to; a driver brings the connection and names its errors.
 * Nothing is cached: with statements prepared anew each time, an update with its event costs 0.4 ms of CPU, 0.5 to 0.8 ms
 * with the disk's sync, which is noise beside a training step.
 */
import { createDatasetStore } from './datasets.ts'
import { createEvaluationStore } from './evaluations.ts'
import { createEvents } from './events.ts'
import { createAnswers } from './idempotency.ts'
import { createJobs } from './jobs.ts'
import { createKeys } from './keys.ts'
import { createOutbox } from './outbox.ts'
import type { Store, StoreOptions } from './port.ts'
import { createRemovals } from './removals.ts'
import { createTransact, type Driver } from './transact.ts'

export type { Driver } from './transact.ts'

export function createStore(driver: Driver, options: StoreOptions = {}): Store {
  const { db } = driver
  const transact = createTransact(driver)
  return {
    ...createJobs(driver, transact, options),
    ...createEvents(db),
    ...createKeys(db, transact),
    ...createAnswers(db),
    ...createRemovals(db, transact),
    outbox: createOutbox(db, transact),
    datasets: createDatasetStore(db, transact),
    evaluations: createEvaluationStore(db, transact),

    async check() {
      await db.selectFrom('jobs').select('id').limit(1).execute()
    },

    async close() {
      await db.destroy()
    },
  }
}

import { ServiceError } from '@mlx-training/contract'
import type { Kysely, Transaction } from 'kysely'
import type { Tables } from './schema.ts'

export interface Driver {
  db: Kysely<Tables>
  /** What went wrong, by the driver's own codes. */
  classify(error: unknown): 'unique' | 'full' | 'busy' | 'other'
}

/** One transaction. A full disk and a locked database come out as ServiceErrors, everything else as it is. */
export type Transact = <T>(work: (trx: Transaction<Tables>) => Promise<T>) => Promise<T>

export function createTransact({ db, classify }: Driver): Transact {
  return async (work) => {
    try {
      return await db.transaction().execute(work)
    } catch (error) {
      switch (classify(error)) {
        case 'full':
          throw new ServiceError('insufficient_storage', 'The disk that holds the database is full: free some space', {
            retryAfter: 30,
            cause: error,
          })
        case 'busy':
          throw new ServiceError('unavailable', 'The database is locked by another program: try again', {
            retryAfter: 1,
            cause: error,
          })
        default:
          throw error
      }
    }
  }
}

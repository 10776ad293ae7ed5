/** createEventLog: a job's history, from the store and on. */
import type { Store } from '../store/port.ts'
import { createBell } from './bell.ts'
import { Followers } from './followers.ts'
import type { Notifier } from './notifier.ts'
import type { EventLog } from './port.ts'
import { SharedReads } from './shared-reads.ts'

export function createEventLog(store: Store, notifier: Notifier): EventLog {
  const reads = new SharedReads(store)
  const followers = new Followers()
  notifier.subscribe('events', (id) => {
    reads.grown(id)
    followers.wake(id)
  })

  return {
    after: store.eventsAfter,
    before: store.eventsBefore,

    async *follow(jobId, after, signal) {
      let cursor = after
      // Until the first look at the job it may have ended before; later only after an `end`.
      let mayHaveEnded = true
      const bell = createBell()
      const leave = followers.add(jobId, bell.ring)
      signal.addEventListener('abort', bell.ring)
      try {
        while (!signal.aborted) {
          const rung = bell.next()
          const batch = await reads.read(jobId, cursor)
          const last = batch.at(-1)
          if (last) {
            cursor = last.id
            mayHaveEnded = last.type === 'end'
            yield batch
          } else if (mayHaveEnded && (await isOver(store, jobId, cursor))) {
            return
          } else {
            mayHaveEnded = false
            await rung
          }
        }
      } finally {
        if (leave()) reads.forget(jobId)
        signal.removeEventListener('abort', bell.ring)
      }
    },
  }
}

/** Nothing comes after `cursor` unless the job is resumed: it has ended, or it has been replaced. */
async function isOver(store: Store, jobId: string, cursor: number): Promise<boolean> {
  const job = await store.jobById(jobId)
  return job === null || (job.completedAt !== null && cursor >= job.lastEventId)
}

/** SharedReads: followers of a job who are at the same place read the store once, and get the same array. */
import type { JobEvent } from '@mlx-training/contract'
import type { Store } from '../store/port.ts'

/** Events a read, which is also what a client that does not take them makes this server hold. */
export const BATCH = 250
/** Reads that are kept, each about half a megabyte: all of a history of 16,000 events while many replay it. */
export const KEPT = 64

export class SharedReads {
  readonly #store: Pick<Store, 'eventsAfter'>
  /** The least recently used first. */
  readonly #reads = new Map<string, { jobId: string; full: boolean; events: Promise<JobEvent[]> }>()

  constructor(store: Pick<Store, 'eventsAfter'>) {
    this.#store = store
  }

  /** At most BATCH events with id > after. Not to be changed: others hold the same array. */
  read(jobId: string, after: number): Promise<JobEvent[]> {
    const key = `${jobId} ${after}`
    const read = this.#reads.get(key) ?? this.#begin(key, jobId, after)
    this.#reads.delete(key)
    this.#reads.set(key, read)
    if (this.#reads.size > KEPT) this.#reads.delete(this.#reads.keys().next().value as string)
    return read.events
  }

  /** To be called when a job's history has grown, before its readers are woken. A full batch stays as it is for ever. */
  grown(jobId: string): void {
    for (const [key, read] of this.#reads) if (read.jobId === jobId && !read.full) this.#reads.delete(key)
  }

  /** To be called when nobody follows a job any more. */
  forget(jobId: string): void {
    for (const [key, read] of this.#reads) if (read.jobId === jobId) this.#reads.delete(key)
  }

  #begin(key: string, jobId: string, after: number) {
    const read = { jobId, full: false, events: this.#store.eventsAfter(jobId, after, BATCH) }
    read.events.then(
      (events) => {
        read.full = events.length === BATCH
      },
      () => {
        // Everybody who waits for it is told; the next one asks anew.
        if (this.#reads.get(key) === read) this.#reads.delete(key)
      },
    )
    return read
  }
}

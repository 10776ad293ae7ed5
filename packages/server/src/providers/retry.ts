import { setTimeout as sleep } from 'node:timers/promises'

export interface RetryOptions {
  /** Beside the first try. */
  retries: number
  /** Of the first back-off; each further one may be twice as long, up to 8 s. */
  backoffMs: number
}

const LONGEST_BACKOFF_MS = 8000

/** A provider that asks for more time than this is not waited for: the caller is told when to come again. */
export const LONGEST_WAIT_MS = 5000

/** Milliseconds to wait: as long as the provider asks, and beside that a random time from none to the back-off (full jitter,
 *  https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter), so that those who failed together don't come
 *  again together. */
export const waitBefore = (retry: number, asked: number, backoffMs: number, random = Math.random()): number =>
  asked + random * Math.min(LONGEST_BACKOFF_MS, backoffMs * 2 ** retry)

/**
 * Tries until it succeeds, as long as nothing was passed on: what a client has read can't be taken back.
 * @param pause milliseconds the provider asks to wait (0: doesn't say); null: trying again is useless
 * @param timeLeft milliseconds
 */
export async function* retried<P, O>(
  attempt: () => AsyncGenerator<P, O>,
  { retries, backoffMs }: RetryOptions,
  pause: (error: unknown) => number | null,
  timeLeft: () => number,
  signal: AbortSignal,
): AsyncGenerator<P, O> {
  for (let tried = 0; ; tried++) {
    const pieces = attempt()
    let passedOn = false
    try {
      let next = await pieces.next()
      while (!next.done) {
        passedOn = true
        yield next.value
        next = await pieces.next()
      }
      return next.value
    } catch (error) {
      const asked = passedOn || signal.aborted || tried >= retries ? null : pause(error)
      if (asked === null || asked > LONGEST_WAIT_MS) throw error
      const wait = waitBefore(tried, asked, backoffMs)
      if (wait > timeLeft()) throw error
      await sleep(wait, undefined, { signal })
    } finally {
      await pieces.return(undefined as never)
    }
  }
}

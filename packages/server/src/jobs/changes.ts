/** createJobChanges: the list of jobs as it changes, for any number of followers. */
import type { JobsChange } from '@mlx-training/contract'
import { createBell } from '../events/bell.ts'
import { Followers } from '../events/followers.ts'
import type { Notifier } from '../events/notifier.ts'
import { ListHistory } from './list-history.ts'
import type { JobService } from './port.ts'
import { summariesOf } from './status.ts'

export interface JobChanges {
  /** Whether the list is looked at again and again: only while somebody follows. */
  readonly watching: boolean
  /** Looks at the list, unless that has just been done. */
  fresh(): Promise<void>
  /**
   * In batches, at the reader's pace: at first the whole list, or what has changed since `lastEventId`, if that is of this
   * start; then what changes, each job as it is by then. Ends when the signal aborts.
   */
  follow(lastEventId: string, signal: AbortSignal): AsyncIterable<readonly JobsChange[]>
}

export interface LookTimes {
  /** Between two looks at least. */
  gapMs: number
  /** Between two looks at most: estimates move without events. */
  idleMs: number
}

const LOOK_TIMES: LookTimes = { gapMs: 1000, idleMs: 5000 }

const LIST = 'list'

export function createJobChanges(
  {
    jobs,
    notifier,
    log,
  }: {
    jobs: Pick<JobService, 'list' | 'places'>
    notifier: Notifier
    log: { warn(details: object, message: string): void }
  },
  { gapMs, idleMs }: LookTimes = LOOK_TIMES,
): JobChanges {
  const history = new ListHistory()
  const followers = new Followers()
  let lookedAt = Number.NEGATIVE_INFINITY
  let looking: Promise<void> | null = null
  let watch: { end(): void } | null = null

  const look = () => {
    looking ??= take().finally(() => {
      looking = null
      lookedAt = performance.now()
    })
    return looking
  }

  async function take(): Promise<void> {
    if (history.take(await summariesOf(jobs))) followers.wake(LIST)
  }

  function begin(): { end(): void } {
    let timer: ReturnType<typeof setTimeout> | undefined
    let ended = false
    // Something may have happened since the look before.
    let due = true
    let busy = false
    const plan = () => {
      clearTimeout(timer)
      if (ended || busy) return
      timer = setTimeout(round, Math.max(0, lookedAt + (due ? gapMs : idleMs) - performance.now()))
    }
    const round = async () => {
      due = false
      busy = true
      // One that has begun before may have read the list before what this is about.
      await looking?.catch(() => {})
      await look().catch((error) => log.warn({ err: error }, 'the list of jobs could not be read for its followers'))
      busy = false
      plan()
    }
    const unsubscribe = notifier.subscribe('events', () => {
      if (due) return
      due = true
      plan()
    })
    plan()
    return {
      end() {
        ended = true
        clearTimeout(timer)
        unsubscribe()
      },
    }
  }

  return {
    get watching() {
      return watch !== null
    },

    async fresh() {
      if (performance.now() - lookedAt >= gapMs) await look()
    },

    async *follow(lastEventId, signal) {
      const bell = createBell()
      const leave = followers.add(LIST, bell.ring)
      signal.addEventListener('abort', bell.ring)
      watch ??= begin()
      try {
        let place = history.placeOf(lastEventId)
        while (!signal.aborted) {
          const rung = bell.next()
          if (place === history.count) {
            await rung
            continue
          }
          const batch = history.since(place)
          place = history.count
          yield batch
        }
      } finally {
        signal.removeEventListener('abort', bell.ring)
        if (leave()) {
          watch?.end()
          watch = null
        }
      }
    },
  }
}

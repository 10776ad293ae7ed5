/** createRoomWatch: jobs that wait for room on the disk go on by themselves when there is some. */
import type { BaseLogger } from 'pino'
import type { Notifier } from '../events/notifier.ts'
import type { Store } from '../store/port.ts'
import { transition } from './machine.ts'
import type { Job } from './port.ts'

export interface RoomWatchDependencies {
  store: Pick<Store, 'jobs' | 'update'>
  notifier: Pick<Notifier, 'publish'>
  /** Whether the disk has as much room as a new run of this kind would be asked to have (space.ts): for several
   *  checkpoints and a reserve, when the job had no room for one. So it does not go back and forth. */
  hasRoom: (job: Job) => Promise<boolean>
  /** Milliseconds between looks. */
  poll: number
  log: Pick<BaseLogger, 'warn' | 'info'>
}

const MAX_DOUBLINGS = 6

export interface RoomWatch {
  close(): void
}

export function createRoomWatch({ store, notifier, hasRoom, poll, log }: RoomWatchDependencies): RoomWatch {
  /** Of jobs that were sent on: a limit that free bytes do not tell of, such as a quota, stops them again at once. */
  const sent = new Map<string, { step: number; times: number; at: number }>()
  let looking = false

  async function look(): Promise<void> {
    for (const job of await store.jobs(['paused'])) {
      if (!job.progress.waitsFor || isResting(job) || !(await hasRoom(job))) continue
      const updated = await store.update(job.id, job.attempt, (now) => {
        const result = transition(now, { type: 'unblocked' }, new Date().toISOString())
        return 'conflict' in result ? null : result
      })
      if (updated?.state !== 'queued') continue
      const { step, times } = sent.get(job.id) ?? { step: -1, times: 0 }
      sent.set(job.id, { step: stepOf(job), times: step === stepOf(job) ? times + 1 : 1, at: performance.now() })
      log.info(
        { job: job.name, job_id: job.id, attempt: job.attempt },
        `there is room on the disk: ${job.name} goes on`,
      )
      notifier.publish('events', job.id)
      notifier.publish('commands', job.id)
    }
  }

  function isResting(job: Job): boolean {
    const last = sent.get(job.id)
    if (!last || last.step !== stepOf(job)) return false
    return performance.now() - last.at < poll * 2 ** Math.min(last.times, MAX_DOUBLINGS)
  }

  const timer = setInterval(() => {
    if (looking) return
    looking = true
    look()
      .catch((error) => log.warn({ err: error }, 'jobs that wait for room could not be looked at'))
      .finally(() => {
        looking = false
      })
  }, poll)
  return { close: () => clearInterval(timer) }
}

/** Of its last checkpoint. */
const stepOf = ({ progress }: Job) => progress.checkpoints.at(-1)?.step ?? 0

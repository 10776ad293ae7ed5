/** createRunner: takes queued jobs to the engine, a few at a time. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine } from '../engine/port.ts'
import { revokeLease } from './lease.ts'
import { AT_WORK, backoffOf, type Input, transition } from './machine.ts'
import type { Job } from './port.ts'
import { createRoomWatch, type RoomWatch } from './room.ts'
import { Run, type RunDependencies } from './run.ts'

/** From a killed process to its job's last state. */
const LAST_WRITE_MILLISECONDS = 2000

export interface RunnerDependencies extends RunDependencies {
  engine: Pick<Engine, 'train' | 'health' | 'ready'>
  maxConcurrentJobs: number
  /** Milliseconds between looks at the queue without being nudged. */
  poll?: number
  /** Whether the disk has room for a job that waits for some: see room.ts. */
  hasRoom: (job: Job) => Promise<boolean>
  /** Milliseconds between looks for room. */
  roomPoll?: number
  /** Milliseconds that jobs get to save a checkpoint at the end. */
  grace?: number
  /** Milliseconds before a job that crashed without a new checkpoint is taken again; twice as long each time. */
  backoff?: number
}

export interface Runner {
  /** Puts back what an earlier server left at work, then takes jobs as soon as the engine is ready. */
  start(): Promise<void>
  /** Suspends all jobs, to be continued, and waits for them. */
  close(): Promise<void>
}

export function createRunner(dependencies: RunnerDependencies): Runner {
  const { store, engine, notifier, log, maxConcurrentJobs, hasRoom } = dependencies
  const { poll = 5000, roomPoll = 10_000, grace = 20_000, backoff } = dependencies
  const runs = new Map<string, Run>()
  /** Crashed jobs that are left alone for a while, by id. */
  const resting = new Map<string, NodeJS.Timeout>()
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let unsubscribe = () => {}
  let room: RoomWatch | undefined
  // One look at the queue at a time; a nudge during it makes another.
  let looking: Promise<void> | null = null
  let nudged = false

  function nudge(): void {
    nudged = true
    looking ??= look().finally(() => {
      looking = null
    })
  }

  async function look(): Promise<void> {
    while (nudged) {
      nudged = false
      await fill().catch((error) => log.error({ err: error }, 'the queue could not be read'))
    }
  }

  async function fill(): Promise<void> {
    while (!closed && runs.size < maxConcurrentJobs && engine.health().state === 'ready') {
      const job = await store.claim((queued) => move(queued, { type: 'claim' }), [...resting.keys()])
      if (!job) return
      notifier.publish('events', job.id)
      log.info({ job: job.name, job_id: job.id, attempt: job.attempt }, `job ${job.name} preparing`)
      const run = new Run(job, dependencies)
      runs.set(job.id, run)
      void run.done.then((ended) => {
        runs.delete(job.id)
        if (ended?.state === 'queued') rest(ended)
        nudge()
      })
    }
  }

  function rest(job: Job): void {
    const { id } = job
    const milliseconds = backoffOf(job, backoff)
    if (closed || milliseconds === 0) return
    const wake = () => {
      resting.delete(id)
      nudge()
    }
    resting.set(id, setTimeout(wake, milliseconds))
  }

  return {
    async start() {
      for (const left of await store.jobs(AT_WORK)) {
        const { id, name, attempt } = left
        const line = { job: name, job_id: id, attempt }
        await revokeLease(left).catch((error) => log.warn({ err: error, ...line }, 'lease kept'))
        await store.update(id, attempt, (job) => move(job, { type: 'crashed', reason: 'The server was restarted' }))
        notifier.publish('events', id)
      }
      unsubscribe = notifier.subscribe('commands', (id) => {
        runs
          .get(id)
          ?.obey()
          .catch((error) => log.error({ err: error, job_id: id }, 'a command could not be read'))
        nudge()
      })
      timer = setInterval(nudge, poll)
      room = createRoomWatch({ store, notifier, hasRoom, poll: roomPoll, log })
      void engine.ready().then(nudge)
    },

    async close() {
      closed = true
      clearInterval(timer)
      room?.close()
      for (const waiting of resting.values()) clearTimeout(waiting)
      unsubscribe()
      await looking
      const open = [...runs.values()]
      const all = Promise.all(open.map((run) => run.done))
      for (const run of open) run.suspend()
      await Promise.race([all, wait(grace)])
      for (const run of open) run.kill()
      await Promise.race([all, wait(LAST_WRITE_MILLISECONDS)])
    },
  }
}

const wait = (milliseconds: number) => sleep(milliseconds, undefined, { ref: false })

/** For moves that the machine always allows from the states that they are asked in. */
function move(job: Job, input: Input) {
  const result = transition(job, input, new Date().toISOString())
  if ('conflict' in result) throw new Error(result.conflict)
  return result
}

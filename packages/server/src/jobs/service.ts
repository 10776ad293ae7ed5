/** createJobService: what users may do with jobs. Writes queued rows and wishes; the runner does the rest. */
import { ServiceError } from '@mlx-training/contract'
import type { Notifier } from '../events/notifier.ts'
import type { Store } from '../store/port.ts'
import { AT_WORK, type JobCommand, transition } from './machine.ts'
import type { Job, JobService } from './port.ts'

export function createJobService(store: Store, notifier: Notifier): JobService {
  async function command(name: string, type: JobCommand): Promise<Job> {
    const found = await store.job(name)
    const job =
      found &&
      (await store.update(found.id, null, (current) => {
        const result = transition(current, { type }, new Date().toISOString())
        if ('conflict' in result) throw new ServiceError('conflict', result.conflict)
        return result
      }))
    if (!job) throw new ServiceError('not_found', `There is no experiment "${name}": GET /train lists them all`)
    announce(job)
    return job
  }

  function announce(job: Job): void {
    notifier.publish('events', job.id)
    notifier.publish('commands', job.id)
  }

  const queued = async () => (await store.jobs(['queued'])).reverse().sort((a, b) => b.priority - a.priority)

  return {
    async submit(job) {
      const created = await store.insertJob(
        job,
        [{ type: 'state', data: { state: 'queued', reason: null, attempt: 0 } }],
        job.request.overwrite ? job.name : undefined,
      )
      announce(created)
      return created
    },
    get: (name) => store.job(name),
    list: () => store.jobs(),
    stop: (name) => command(name, 'stop'),
    pause: (name) => command(name, 'pause'),
    resume: (name) => command(name, 'resume'),
    async queuePosition(job) {
      if (job.state !== 'queued') return null
      const position = (await queued()).findIndex(({ id }) => id === job.id)
      return position < 0 ? null : position
    },
    async counts() {
      const jobs = await store.jobs([...AT_WORK, 'queued'])
      const waiting = jobs.filter(({ state }) => state === 'queued').length
      return { active: jobs.length - waiting, queued: waiting }
    },
  }
}

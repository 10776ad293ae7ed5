/** createJobService: what users may do with jobs. Writes queued rows and wishes; the runner does the rest. */
import { ServiceError } from '@mlx-training/contract'
import type { Notifier } from '../events/notifier.ts'
import { failpoint } from '../files/failpoints.ts'
import { isUnder } from '../files/under.ts'
import { parseFineTuned } from '../models/names.ts'
import type { JobUpdate, Store } from '../store/port.ts'
import { AT_WORK, ENDED, type JobCommand, transition } from './machine.ts'
import type { Job, JobService, NewJob, Once } from './port.ts'
import { placesOf } from './queue.ts'
import type { Sweeper } from './sweeper.ts'

export interface JobServiceDeps {
  store: Store
  notifier: Notifier
  sweeper: Pick<Sweeper, 'sweep'>
  maxConcurrentJobs: number
}

export function createJobService({ store, notifier, sweeper, maxConcurrentJobs }: JobServiceDeps): JobService {
  async function change(name: string, decide: (job: Job) => JobUpdate): Promise<Job> {
    const found = await store.job(name)
    const job = found && (await store.update(found.id, null, decide))
    if (!job) throw unknown(name)
    announce(job)
    return job
  }

  const command = (name: string, type: JobCommand) =>
    change(name, (job) => {
      const result = transition(job, { type }, new Date().toISOString())
      if ('conflict' in result) throw new ServiceError('conflict', result.conflict)
      return result
    })

  function announce(job: Job): void {
    notifier.publish('events', job.id)
    notifier.publish('commands', job.id)
  }

  /** A run's result may be the base of other experiments, which would be nothing without it. */
  async function refuseBase(name: string): Promise<void> {
    const jobs = await store.jobs()
    const folder = jobs.find((job) => job.name === name)?.plan.outputDir
    const user = jobs.find(
      ({ name: other, plan: { model } }) =>
        other !== name && model.kind !== 'hub' && folder && isUnder(folder, model.path),
    )
    if (user)
      throw new ServiceError(
        'conflict',
        `Experiment "${name}" has made the base model of "${user.name}", which can't do without it: delete that one first`,
      )
  }

  /** Its weights are read when their turn comes. */
  async function refuseEvaluated(name: string): Promise<void> {
    const user = (await store.evaluations.unended()).find(({ models }) =>
      models.some((model) => parseFineTuned(model)?.experiment === name),
    )
    if (user)
      throw new ServiceError(
        'conflict',
        `Evaluation ${user.id} is ${user.state} and uses experiment "${name}": wait for it, or cancel it with POST /evaluate/${user.id}/cancel`,
      )
  }

  return {
    async submit<T extends object = Job>(
      job: NewJob,
      answer: (job: Job, position: number) => T = (created) => created as object as T,
      once: Once | null = null,
    ) {
      if (job.request.overwrite) {
        await refuseBase(job.name)
        await refuseEvaluated(job.name)
      }
      let told: T | undefined
      const created = await store.insertJob(
        job,
        [{ type: 'state', data: { state: 'queued', reason: null, attempt: 0 } }],
        {
          ...(job.request.overwrite && { replace: job.name }),
          keep(created, ahead) {
            told = answer(created, ahead)
            return once && { ...once, answer: told }
          },
        },
      )
      failpoint('job.accepted')
      announce(created)
      return told as T
    },
    get: (name) => store.job(name),
    byId: (id) => store.jobById(id),
    list: () => store.jobs(),
    stop: (name) => command(name, 'stop'),
    pause: (name) => command(name, 'pause'),
    resume: (name) => command(name, 'resume'),
    prioritize: (name, priority) =>
      change(name, ({ state }) => {
        if (state !== 'queued')
          throw new ServiceError(
            'conflict',
            `Experiment "${name}" is ${state}: only a queued job has a place in the queue`,
          )
        return { change: { priority }, events: [] }
      }),
    async remove(name) {
      let job: Job | null = null
      const swept = await sweeper.sweep(async () => {
        await refuseBase(name)
        await refuseEvaluated(name)
        job = await store.removeJob(name, mayGo)
        if (job) announce(job)
      })
      if (!job) throw unknown(name)
      const { id }: Job = job
      return { job, swept: swept.get(id) ?? { kept: [], folder: 'missing' } }
    },
    places: async () => placesOf(await store.jobs([...AT_WORK, 'queued']), maxConcurrentJobs, Date.now()),
    async counts() {
      const jobs = await store.jobs([...AT_WORK, 'queued'])
      const waiting = jobs.filter(({ state }) => state === 'queued').length
      return { active: jobs.length - waiting, queued: waiting }
    },
  }
}

const unknown = (name: string) =>
  new ServiceError('not_found', `There is no experiment "${name}": GET /train lists them all`)

function mayGo({ name, state }: Job): void {
  if (ENDED.includes(state)) return
  const remedy = state === 'stopping' ? 'wait until it has stopped' : 'stop it first'
  throw new ServiceError('conflict', `Experiment "${name}" is ${state}: ${remedy}, then delete it`)
}

/** ListHistory: the list of jobs, and what of it has changed since when. */
import { randomBytes } from 'node:crypto'
import type { JobSummary, JobsChange } from '@mlx-training/contract'

/** Removed jobs that are remembered: whoever was away for more of them gets the whole list. */
const MARKS = 1000

/** Arrays that are kept for further readers: most are at the newest places. */
const PLACES = 100

interface Known {
  text: string
  job: JobSummary
  /** The number of its last change. */
  at: number
}

export class ListHistory {
  /** Of this start of the server: the numbers of another mean nothing here. */
  readonly #token = randomBytes(6).toString('hex')
  readonly #marks: number
  #jobs: readonly JobSummary[] = []
  #count = 0
  /** By name; the one that changed last is the last. */
  readonly #known = new Map<string, Known>()
  readonly #removed = new Map<string, number>()
  /** What was removed up to here is no longer known. */
  #forgotten = 0
  /** Followers at the same place get the same array, whose text is made once. */
  readonly #told = new Map<number | null, readonly JobsChange[]>()

  constructor(marks = MARKS) {
    this.#marks = marks
  }

  /** The number of the last change. */
  get count(): number {
    return this.#count
  }

  /** Takes the list as it is now, newest first; tells whether something is different. */
  take(jobs: readonly JobSummary[]): boolean {
    const before = this.#count
    const names = new Set(jobs.map((job) => job.experiment_name))
    for (const name of this.#known.keys())
      if (!names.has(name)) {
        this.#known.delete(name)
        this.#removed.set(name, ++this.#count)
      }
    // The oldest first: a client that puts each new one in front has them in order.
    for (const job of jobs.toReversed()) {
      const { experiment_name: name } = job
      const text = textOf(job)
      if (this.#known.get(name)?.text === text) continue
      this.#removed.delete(name)
      this.#known.delete(name)
      this.#known.set(name, { text, job, at: ++this.#count })
    }
    for (const [name, at] of this.#removed) {
      if (this.#removed.size <= this.#marks) break
      this.#removed.delete(name)
      this.#forgotten = at
    }
    if (this.#count === before) return false
    this.#jobs = jobs
    this.#told.clear()
    return true
  }

  /** The number in an id of this start; null: of none that is known here. */
  placeOf(id: string): number | null {
    const [, token, digits] = /^(\w+)\.(\d{1,15})$/.exec(id) ?? []
    const place = Number(digits)
    return token === this.#token && place <= this.#count ? place : null
  }

  /** What is different since that change, each job as it is now; null: the whole list. */
  since(place: number | null): readonly JobsChange[] {
    const told =
      this.#told.get(place) ?? (place === null || place < this.#forgotten ? this.#whole() : this.#changes(place))
    if (this.#told.size < PLACES) this.#told.set(place, told)
    return told
  }

  #whole(): readonly JobsChange[] {
    return [{ id: this.#id(this.#count), type: 'jobs', training_jobs: [...this.#jobs] }]
  }

  #changes(place: number): readonly JobsChange[] {
    const changes: [at: number, change: JobsChange][] = []
    for (const [name, at] of this.#removed)
      if (at > place) changes.push([at, { id: this.#id(at), type: 'removed', experiment_name: name }])
    for (const { job, at } of this.#known.values())
      if (at > place) changes.push([at, { id: this.#id(at), type: 'job', job }])
    return changes.sort(([a], [b]) => a - b).map(([, change]) => change)
  }

  #id(at: number): string {
    return `${this.#token}.${at}`
  }
}

/** What is compared. An estimated start moves with the clock: by less than 10 s it is the same. */
const textOf = (job: JobSummary) =>
  JSON.stringify({ ...job, estimated_start: job.estimated_start?.slice(0, '2024-01-15T10:30:0'.length) })

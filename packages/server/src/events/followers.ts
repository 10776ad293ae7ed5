/** Followers: who is woken when a job's history grows, some at a time, so that requests get their turn in between. */

/** A follower takes about 25 µs to be sent an event. */
const AT_A_TIME = 40

export class Followers {
  readonly #ofJob = new Map<string, Set<() => void>>()
  readonly #due = new Set<() => void>()
  #waking = false

  /** Returns the way to be woken no more, which tells whether that was the job's last follower. */
  add(jobId: string, wake: () => void): () => boolean {
    const followers = this.#ofJob.get(jobId) ?? new Set()
    this.#ofJob.set(jobId, followers.add(wake))
    return () => {
      this.#due.delete(wake)
      followers.delete(wake)
      if (followers.size > 0) return false
      return this.#ofJob.delete(jobId)
    }
  }

  wake(jobId: string): void {
    for (const wake of this.#ofJob.get(jobId) ?? []) this.#due.add(wake)
    if (this.#due.size === 0 || this.#waking) return
    this.#waking = true
    setImmediate(() => this.#some())
  }

  #some(): void {
    let left = AT_A_TIME
    for (const wake of this.#due) {
      if (left-- === 0) break
      this.#due.delete(wake)
      wake()
    }
    this.#waking = this.#due.size > 0
    if (this.#waking) setImmediate(() => this.#some())
  }
}

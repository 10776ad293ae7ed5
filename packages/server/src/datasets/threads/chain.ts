import type { Merge } from './merge.ts'
import { type Range, type RangeTally, readAgain, type Shared } from './range.ts'

/** Ranges one after the other into a merge: each must begin where the one before ended, or it was a wrong guess. */
export class Chain {
  readonly #shared: Shared
  readonly #merge: Merge
  #at: number

  constructor(shared: Shared, merge: Merge) {
    this.#shared = shared
    this.#merge = merge
    this.#at = shared.boundary ? 1 : 0
  }

  add({ to }: Range, read: RangeTally): void {
    // All of it belongs to a row that began before it.
    if (this.#at >= to) return
    const isWrong = read.start !== this.#at || read.fault !== null
    const tally = isWrong && this.#shared.boundary ? readAgain(this.#shared, this.#at, to, this.#merge.before) : read
    this.#merge.add(tally)
    this.#at = tally.next
  }
}

/** Rows remembered per table; 16 bytes a slot of which ¾ may be taken, so 64 MiB at most. */
const MAX_ENTRIES = 3_000_000

/** 64-bit hash → the first sample that had it, and a number beside. Open addressing in typed arrays: a Map takes five times
 *  the memory. */
export class Seen {
  #capacity: number
  /** Low and high half of the hash, sample + 1 (0 marks a free slot), the number beside. */
  #slots: Int32Array
  #size = 0
  readonly #limit: number
  /** Beside the entry that was found last. */
  beside = 0

  /** `expected`: about how many there will be, so that the table need not grow again and again. */
  constructor(limit = MAX_ENTRIES, expected = 0) {
    this.#limit = limit
    this.#capacity = 2 ** Math.ceil(Math.log2(Math.max(256, Math.min(limit, expected) / 0.75)))
    this.#slots = new Int32Array(4 * this.#capacity)
  }

  /** New hashes are no longer remembered. */
  get full(): boolean {
    return this.#size >= this.#limit
  }

  /** The earlier sample with this hash; null when it is the first, which is then remembered. */
  firstOf(low: number, high: number, sample: number, beside = 0): number | null {
    let at = this.#slot(low | 0, high | 0)
    if (this.#slots[at + 2] !== 0) return this.#found(at)
    if (this.full) return null
    if (this.#size >= this.#capacity * 0.75) {
      this.#grow()
      at = this.#slot(low | 0, high | 0)
    }
    this.#slots[at] = low
    this.#slots[at + 1] = high
    this.#slots[at + 2] = sample + 1
    this.#slots[at + 3] = beside
    this.#size++
    return null
  }

  /**
   * Looks where `firstOf` will. The table is far larger than the processor's caches: asked for many places one after the other,
   * without waiting for what is there, it fetches them at the same time.
   */
  touch(low: number): number {
    return this.#slots[((low << 2) & (4 * this.#capacity - 4)) + 2] as number
  }

  /** The sample with this hash, if there is one. */
  find(low: number, high: number): number | null {
    const at = this.#slot(low | 0, high | 0)
    return this.#slots[at + 2] === 0 ? null : this.#found(at)
  }

  #found(at: number): number {
    this.beside = this.#slots[at + 3] as number
    return (this.#slots[at + 2] as number) - 1
  }

  #slot(low: number, high: number): number {
    const slots = this.#slots
    const mask = 4 * this.#capacity - 4
    let at = (low << 2) & mask
    while (slots[at + 2] !== 0 && (slots[at] !== low || slots[at + 1] !== high)) at = (at + 4) & mask
    return at
  }

  #grow(): void {
    const old = this.#slots
    this.#capacity *= 2
    this.#slots = new Int32Array(4 * this.#capacity)
    for (let i = 0; i < old.length; i += 4) {
      if (old[i + 2] === 0) continue
      const at = this.#slot(old[i] as number, old[i + 1] as number)
      for (let k = 0; k < 4; k++) this.#slots[at + k] = old[i + k] as number
    }
  }
}

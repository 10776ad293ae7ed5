/** Rows remembered per table; 12 bytes a slot of which ¾ may be taken, so 48 MiB at most. */
const MAX_ENTRIES = 3_000_000

/** 64-bit hash → the first sample that had it. Open addressing in typed arrays: a Map takes five times the memory. */
export class Seen {
  #capacity = 1 << 10
  #low = new Uint32Array(this.#capacity)
  #high = new Uint32Array(this.#capacity)
  /** Sample number + 1; 0 marks a free slot. */
  #sample = new Uint32Array(this.#capacity)
  #size = 0
  readonly #limit: number

  constructor(limit = MAX_ENTRIES) {
    this.#limit = limit
  }

  /** New hashes are no longer remembered. */
  get full(): boolean {
    return this.#size >= this.#limit
  }

  /** The earlier sample with this hash; null when it is the first, which is then remembered. */
  firstOf(low: number, high: number, sample: number): number | null {
    let slot = this.#slot(low, high)
    if (this.#sample[slot] !== 0) return (this.#sample[slot] as number) - 1
    if (this.full) return null
    if (this.#size >= this.#capacity * 0.75) {
      this.#grow()
      slot = this.#slot(low, high)
    }
    this.#low[slot] = low
    this.#high[slot] = high
    this.#sample[slot] = sample + 1
    this.#size++
    return null
  }

  #slot(low: number, high: number): number {
    const mask = this.#capacity - 1
    let slot = low & mask
    while (this.#sample[slot] !== 0 && (this.#low[slot] !== low >>> 0 || this.#high[slot] !== high >>> 0))
      slot = (slot + 1) & mask
    return slot
  }

  #grow(): void {
    const [low, high, sample] = [this.#low, this.#high, this.#sample]
    this.#capacity *= 2
    this.#low = new Uint32Array(this.#capacity)
    this.#high = new Uint32Array(this.#capacity)
    this.#sample = new Uint32Array(this.#capacity)
    for (let i = 0; i < sample.length; i++) {
      if (sample[i] === 0) continue
      const slot = this.#slot(low[i] as number, high[i] as number)
      this.#low[slot] = low[i] as number
      this.#high[slot] = high[i] as number
      this.#sample[slot] = sample[i] as number
    }
  }
}

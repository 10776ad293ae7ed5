import { setImmediate } from 'node:timers/promises'

/** Bytes of rows between two looks at what else there is to do: parsing and hashing them takes some milliseconds. */
const STRETCH_BYTES = 256 * 1024

/** Lets the event loop have its turn while many rows are worked through. */
export class Turns {
  #bytes = 0

  /** After so many bytes more. */
  async after(bytes: number): Promise<void> {
    this.#bytes += bytes
    if (this.#bytes < STRETCH_BYTES) return
    this.#bytes = 0
    await setImmediate()
  }
}

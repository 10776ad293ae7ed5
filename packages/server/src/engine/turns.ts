import { ServiceError } from '@mlx-training/contract'

/** One at a time, first come, first served. Beyond `limit` that wait, the next one is sent away. */
export class Turns {
  readonly #limit: number
  readonly #waiting: (() => void)[] = []
  #busy = false

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Resolves when the caller's turn has come, with what ends it. Rejects with ServiceError('rate_limited'), or with the
   *  signal's reason once that aborts. */
  async next(signal: AbortSignal | undefined): Promise<() => void> {
    signal?.throwIfAborted()
    if (this.#busy) await this.#wait(signal)
    this.#busy = true
    return () => {
      this.#busy = false
      this.#waiting.shift()?.()
    }
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.length >= this.#limit)
      throw new ServiceError(
        'rate_limited',
        `${this.#waiting.length} requests for a supervision report or a preview are waiting already: try again later`,
        { retryAfter: 10 },
      )
    return new Promise((resolve, reject) => {
      const enter = () => {
        signal?.removeEventListener('abort', leave)
        this.#busy = true
        resolve()
      }
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1)
        reject(signal?.reason)
      }
      this.#waiting.push(enter)
      signal?.addEventListener('abort', leave, { once: true })
    })
  }
}

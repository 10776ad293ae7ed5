export interface Following {
  onProgress?: (stage: string, done: number, total: number) => void
  signal?: AbortSignal
}

export type Work<T> = (following: Required<Following>) => Promise<T>

interface Running<T> {
  promise: Promise<T>
  controller: AbortController
  followers: Set<Following>
}

/** Runs one piece of work a key, however many ask for it at once. All of them hear its progress; each can leave by its
 *  own signal, and the work is aborted when the last one has left. Who comes after that waits for its end and begins anew. */
export class Shared<T> {
  #running = new Map<string, Running<T>>()

  /** Rejects with the signal's reason when that aborts first. */
  async run(key: string, following: Following, work: Work<T>): Promise<T> {
    const left = aborted(following.signal)
    try {
      return await Promise.race([this.#follow(key, following, work), left.promise])
    } finally {
      left.dispose()
      const running = this.#running.get(key)
      running?.followers.delete(following)
      if (running?.followers.size === 0) running.controller.abort(following.signal?.reason)
    }
  }

  async #follow(key: string, following: Following, work: Work<T>): Promise<T> {
    let running = this.#running.get(key)
    while (running?.controller.signal.aborted) {
      await Promise.allSettled([running.promise])
      running = this.#running.get(key)
    }
    following.signal?.throwIfAborted()
    running ??= this.#start(key, work)
    running.followers.add(following)
    return await running.promise
  }

  #start(key: string, work: Work<T>): Running<T> {
    const controller = new AbortController()
    const followers = new Set<Following>()
    const promise = work({
      signal: controller.signal,
      onProgress: (...progress) => {
        for (const follower of followers) follower.onProgress?.(...progress)
      },
    })
    const running = { promise, controller, followers }
    this.#running.set(key, running)
    const done = () => this.#running.delete(key)
    promise.then(done, done)
    return running
  }
}

function aborted(signal: AbortSignal | undefined): {
  promise: Promise<never>
  dispose: () => void
} {
  let dispose = () => {}
  const promise = new Promise<never>((_, reject) => {
    const abort = () => reject(signal?.reason)
    signal?.addEventListener('abort', abort, { once: true })
    dispose = () => signal?.removeEventListener('abort', abort)
  })
  return { promise, dispose }
}

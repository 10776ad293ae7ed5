import type { ServerResponse } from 'node:http'

/** Requests that are not answered yet, streams that go on, by the key that they came with. */
export class OpenRequests {
  readonly #byKey = new Map<string, Set<ServerResponse>>()

  readonly #cut = new Set<string>()

  add(key: string, response: ServerResponse): void {
    // Its key was still good when it was looked at.
    if (this.#cut.has(key)) return void response.destroy()
    const open = this.#byKey.get(key) ?? new Set()
    this.#byKey.set(key, open.add(response))
    response.once('close', () => {
      open.delete(response)
      if (open.size === 0 && this.#byKey.get(key) === open) this.#byKey.delete(key)
    })
  }

  /** For good. Breaks the connections of all but one, which is the request that asks for it. */
  cut(key: string, except: ServerResponse): void {
    this.#cut.add(key)
    for (const response of this.#byKey.get(key) ?? []) if (response !== except) response.destroy()
  }
}

/** Asks again and again, also after failures, and not while nobody looks. */
export interface Poll {
  /** Asks at once. */
  now(): void
  stop(): void
}

/** `ask` says after how many milliseconds it is to be called again. It must not throw. */
export function poll(ask: (signal: AbortSignal) => Promise<number>): Poll {
  const ended = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  let asking = false
  let again = false
  const round = async () => {
    clearTimeout(timer)
    if (asking) {
      again = true
      return
    }
    if (document.hidden) return
    asking = true
    const wait = await ask(ended.signal)
    asking = false
    if (ended.signal.aborted) return
    if (again) {
      again = false
      void round()
    } else timer = setTimeout(round, wait)
  }
  document.addEventListener('visibilitychange', round, { signal: ended.signal })
  void round()
  return {
    now: round,
    stop: () => {
      clearTimeout(timer)
      ended.abort()
    },
  }
}

/** A browser has six connections to a server for all of its tabs: what nobody looks at gives its stream back. */

const HIDDEN_MS = 10_000

/** Resolves when somebody looks. Rejects when the signal aborts. */
export function untilVisible(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve()
  return new Promise((resume, stop) => {
    document.addEventListener('visibilitychange', () => !document.hidden && resume(), { once: true, signal })
    signal.addEventListener('abort', () => stop(signal.reason), { once: true })
  })
}

/** Runs `work` with a signal that aborts when nobody has looked for a while, too; that is no error. */
export async function whileVisible(left: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const hidden = new AbortController()
  const done = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  const changed = () => {
    clearTimeout(timer)
    if (document.hidden) timer = setTimeout(() => hidden.abort(), HIDDEN_MS)
  }
  document.addEventListener('visibilitychange', changed, { signal: done.signal })
  try {
    await work(AbortSignal.any([left, hidden.signal]))
  } catch (error) {
    if (!hidden.signal.aborted) throw error
  } finally {
    clearTimeout(timer)
    done.abort()
  }
}

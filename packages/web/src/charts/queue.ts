/** Work on several charts, one after the other with frames between, so that none of them keeps the page from answering. */
const waiting = new Set<() => void>()
let running = false

/** Milliseconds after which the page gets its turn. */
const TURN_MS = 8

/** Done soon; asked for again before that, done once. */
export function soon(work: () => void): void {
  waiting.add(work)
  if (running) return
  running = true
  requestAnimationFrame(round)
}

export const notAnyMore = (work: () => void) => waiting.delete(work)

function round(): void {
  const began = performance.now()
  for (const work of waiting) {
    waiting.delete(work)
    work()
    if (performance.now() - began > TURN_MS) break
  }
  if (waiting.size > 0) requestAnimationFrame(round)
  else running = false
}

import { createLogUpdate } from 'log-update'
import pc from './colours.ts'
import { duration } from './format.ts'

/** Sooner nobody wonders. */
const QUIET_MS = 1000

/** Says what is waited for, and since when, where somebody looks: on a terminal, on stderr, until it is there. */
export async function waiting<T>(what: string, work: Promise<T>, stream = process.stderr): Promise<T> {
  if (!stream.isTTY) return await work
  const line = createLogUpdate(stream)
  const began = Date.now()
  const clock = setInterval(() => line(pc.dim(`${what} … ${duration((Date.now() - began) / 1000)}`)), QUIET_MS)
  try {
    return await work
  } finally {
    clearInterval(clock)
    line.clear()
    line.done()
  }
}

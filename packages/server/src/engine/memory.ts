/** What the system says of memory. */
import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'

/** Processes that the kernel has killed for want of memory since it started, in any container; null: it doesn't say. */
export function oomKills(): number | null {
  try {
    const count = /^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1]
    return count === undefined ? null : Number(count)
  } catch {
    return null
  }
}

/** So many megabytes as a share of what the machine, or the container, has. */
export function memoryShare(megabytes: number): number {
  const limit = process.constrainedMemory()
  return (megabytes * 1e6) / (limit > 0 ? Math.min(limit, totalmem()) : totalmem())
}

/** What the system says of memory. */
import { readFileSync } from 'node:fs'
import { freemem, totalmem } from 'node:os'

/** Processes that the kernel has killed for want of memory since it started, in any container; null: it doesn't say. */
export function oomKills(): number | null {
  try {
    const count = /^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1]
    return count === undefined ? null : Number(count)
  } catch {
    return null
  }
}

/** Bytes that the machine, or the container, has. */
function totalMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

/** So many megabytes as a share of what the machine, or the container, has. */
export const memoryShare = (megabytes: number): number => (megabytes * 1e6) / totalMemory()

/** Of the machine, or the container. Node before 20.13 doesn't tell what a container has left. */
export function memory(): { total_mb: number; available_mb: number } {
  const total = totalMemory()
  const available = 'availableMemory' in process ? process.availableMemory() : freemem()
  return { total_mb: Math.round(total / 1e6), available_mb: Math.round(Math.min(total, available) / 1e6) }
}

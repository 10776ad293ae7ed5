/** Ends engine processes that an earlier server of this home folder has left. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { BaseLogger } from 'pino'
import { ConfigError } from '../config.ts'
import { failpoint } from '../files/failpoints.ts'
import { ownerIn } from './owner.ts'
import { listProcesses, type SystemProcess } from './processes.ts'

const POLL_MILLISECONDS = 50
const PATIENCE_MILLISECONDS = 10_000

/**
 * To be called by whoever holds the home folder's lock, before any job is taken. Engines end with their server; one that
 * was stopped or hangs may not (macOS has nothing like PR_SET_PDEATHSIG). Ended are exactly those processes whose command
 * line names this home folder, and a server that is not their parent any more: a running server's, which a copy of its
 * home folder would name too, are let alone. ConfigError when one can't be ended.
 */
export async function endOrphans(home: string, log: Pick<BaseLogger, 'warn'>): Promise<void> {
  if (failpoint('orphans')) return
  const deadline = performance.now() + PATIENCE_MILLISECONDS
  const signalled = new Set<string>()
  for (let left = await orphansOf(home); left.length > 0; left = await orphansOf(home)) {
    for (const orphan of left) {
      const { pid, started, commandLine } = orphan
      if (!signalled.has(`${pid} ${started}`))
        log.warn({ pid, command: commandLine.slice(0, 3) }, 'an engine process of an earlier server is ended')
      signalled.add(`${pid} ${started}`)
      kill(orphan)
    }
    if (performance.now() > deadline)
      throw new ConfigError(
        `Process ${left[0]?.pid} of an earlier server does not end, and might still write to its job's folder: end it`,
      )
    await sleep(POLL_MILLISECONDS)
  }
}

/** Also what tests and tools look for: all engine processes of a home folder, with whether their server still runs. */
export async function enginesOf(home: string): Promise<(SystemProcess & { orphaned: boolean })[]> {
  return (await listProcesses()).flatMap((found) => {
    const owner = ownerIn(found.commandLine, home)
    return owner ? [{ ...found, orphaned: found.parent !== owner.server }] : []
  })
}

const orphansOf = async (home: string) => (await enginesOf(home)).filter(({ orphaned }) => orphaned)

/** With its ranks, which are in its group. */
function kill({ pid, group }: SystemProcess): void {
  try {
    process.kill(group === pid ? -pid : pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** The end of an engine process in words that a user can act on. Pure. */

export interface ProcessEnd {
  code: number | null
  signal: NodeJS.Signals | null
  /** Why this side ended it; null: it ended by itself. */
  fault: { kind: 'protocol' | 'hung' | 'no_hello' | 'deadline' | 'killed' | 'internal'; detail: string } | null
  /** The last lines of stderr. */
  log: string[]
  /** Whether the kernel killed processes for want of memory while it ran; null: it doesn't say. */
  oomKilled: boolean | null
  /** Of the memory that there is, what it had when it last told: 0 to 1. */
  memoryShare: number
}

/** An allocation that failed, as C++, Python and Intel's libraries say it before they abort. */
const FAILED_ALLOCATION = /bad_alloc|MemoryError|out of memory|(can ?not|unable to) allocate/i
/** From here on a SIGKILL that the kernel did not count may be that of a watchdog such as systemd-oomd. */
const NEARLY_ALL = 0.8

/** Whether it ended as processes do for want of memory. A mistake costs a retry that computes less at a time. */
export function ranOutOfMemory({ signal, fault, log, oomKilled, memoryShare }: ProcessEnd): boolean {
  if (fault) return false
  if (signal === 'SIGKILL') return oomKilled !== false || memoryShare > NEARLY_ALL
  // Measured with MLX 0.32.4: on a CPU it segfaults where an allocation fails, and raises nothing.
  return signal === 'SIGSEGV' || log.some((line) => FAILED_ALLOCATION.test(line))
}

export function explain(end: ProcessEnd): string {
  const { code, signal, fault, log } = end
  switch (fault?.kind) {
    case 'protocol':
      return `The engine broke the protocol and was ended: ${fault.detail}`
    case 'hung':
      return `The engine gave no sign of life for ${fault.detail} and was ended`
    case 'no_hello':
      return `The engine did not start within ${fault.detail} and was ended`
    case 'deadline':
      return `The engine did not end within ${fault.detail} of being asked to and was killed`
    case 'killed':
      return 'The engine was killed by the server'
    case 'internal':
      return `The server could not go on with the engine's messages: ${fault.detail}`
  }
  switch (signal) {
    case null:
      break
    case 'SIGKILL':
      if (end.oomKilled) return 'The engine was killed by SIGKILL: the system ran out of memory'
      if (ranOutOfMemory(end)) return 'The engine was killed by SIGKILL: most likely the system ran out of memory'
      return 'The engine was killed from outside by SIGKILL, though the system had not run out of memory'
    case 'SIGSEGV':
      return 'The engine crashed in native code (SIGSEGV), as MLX on a CPU does when memory runs out'
    case 'SIGBUS':
    case 'SIGILL':
    case 'SIGFPE':
    case 'SIGABRT':
      return `The engine ${failedAllocation(log) ?? `crashed in native code (${signal})${lastLine(log)}`}`
    default:
      return `The engine was ended from outside by ${signal}`
  }
  if (code === 0) return `The engine ended without finishing its work${lastLine(log)}`
  return `The engine ended with exit status ${code}${lastLine(log)}`
}

function failedAllocation(log: string[]): string | null {
  const line = log.findLast((line) => FAILED_ALLOCATION.test(line))
  return line === undefined ? null : `ran out of memory: ${line.slice(0, 400)}`
}

const lastLine = (log: string[]) => (log.length > 0 ? `: ${log.at(-1)?.slice(0, 400)}` : '')

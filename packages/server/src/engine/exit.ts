/** explain: the end of an engine process in words that a user can act on. Pure. */

export interface ProcessEnd {
  code: number | null
  signal: NodeJS.Signals | null
  /** Why this side ended it; null: it ended by itself. */
  fault: { kind: 'protocol' | 'hung' | 'no_hello' | 'deadline' | 'killed' | 'internal'; detail: string } | null
  /** The last lines of stderr. */
  log: string[]
}

export function explain({ code, signal, fault, log }: ProcessEnd): string {
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
      return 'The engine was killed by SIGKILL: most likely the system ran out of memory. A smaller batch_size or max_seq_length, or QLoRA, takes less'
    // Measured with MLX 0.32.4: on a CPU it segfaults where an allocation fails, and raises nothing.
    case 'SIGSEGV':
      return `The engine crashed in native code (SIGSEGV), as MLX on a CPU does when memory runs out. A smaller batch_size or max_seq_length takes less${lastLine(log)}`
    case 'SIGBUS':
    case 'SIGILL':
    case 'SIGFPE':
    case 'SIGABRT':
      return `The engine crashed in native code (${signal})${lastLine(log)}`
    default:
      return `The engine was ended from outside by ${signal}`
  }
  if (code === 0) return `The engine ended without finishing its work${lastLine(log)}`
  return `The engine ended with exit status ${code}${lastLine(log)}`
}

const lastLine = (log: string[]) => (log.length > 0 ? `: ${log.at(-1)?.slice(0, 400)}` : '')

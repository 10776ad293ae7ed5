/** A status that scripts can use, and what ends a command with one. */
export const EXIT = {
  ok: 0,
  /** The service worked, the result is bad: a job that failed, data with errors. */
  bad: 1,
  /** Wrong flags, fields or files. */
  usage: 2,
  unreachable: 3,
  refused: 4,
  notFound: 5,
  conflict: 6,
  server: 7,
  /** Ctrl-C, as shells have it. */
  interrupted: 130,
} as const

/** Ends the command with a line on stderr. */
export class Stop extends Error {
  readonly code: number

  constructor(message: string, code: number = EXIT.usage) {
    super(message)
    this.code = code
  }
}

/** Several of what a command was to do failed, each for a reason of its own. */
export class Several extends Error {
  readonly failures: { name: string; error: unknown }[]

  constructor(failures: { name: string; error: unknown }[]) {
    super(`${failures.length} failed`)
    this.failures = failures
  }
}

import type { Code } from '../codes.ts'

/** Ends the reading of a file: what follows can't be told apart into rows. `line` counts from 1. */
export class FileFault extends Error {
  readonly code: Code
  readonly line: number | null

  constructor(code: Code, message: string, line: number | null = null) {
    super(message)
    this.code = code
    this.line = line
  }
}

/** What a command ends with: one line of what went wrong and what to do, and a status that scripts can use. */
import {
  ApiError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  ConnectionError,
  NotFoundError,
  PermissionDeniedError,
  RequestError,
  UnprocessableError,
} from '@mlx-training/sdk'

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

/** `url`: of the server that was asked. */
export function explain(error: unknown, url: string): { line: string; code: number } {
  if (error instanceof Stop) return { line: error.message, code: error.code }
  if (error instanceof ApiError) {
    const fields = error.errors.length > 1 ? error.errors.map(({ field, message }) => `\n  ${field}: ${message}`) : []
    return { line: error.message + fields.join('') + hintOf(error), code: codeOf(error) }
  }
  if (error instanceof RequestError) return { line: error.message, code: EXIT.usage }
  if (error instanceof ConnectionError)
    return {
      line: `No answer from ${url} (${reasonOf(error)}). Start the server with: mlx-training serve, or name another with --url`,
      code: EXIT.unreachable,
    }
  return { line: error instanceof Error ? error.message : String(error), code: EXIT.server }
}

function hintOf(error: ApiError): string {
  if (error instanceof AuthenticationError)
    return '. Give the key with --key or MLX_TRAINING_API_KEY; a server makes its own at first start, in data/admin.key'
  return error.status >= 500 && error.requestId ? ` (request ${error.requestId})` : ''
}

function codeOf(error: ApiError): number {
  if (error instanceof AuthenticationError || error instanceof PermissionDeniedError) return EXIT.refused
  if (error instanceof NotFoundError) return EXIT.notFound
  if (error instanceof ConflictError) return EXIT.conflict
  if (error instanceof BadRequestError || error instanceof UnprocessableError) return EXIT.usage
  return EXIT.server
}

const reasonOf = (error: Error) => (/ECONNREFUSED/.test(error.message) ? 'nothing listens there' : error.message)

/** What a command ends with: what went wrong and what to do, as text and for --json, and its status. */
import {
  ApiError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  ConnectionError,
  type ErrorBody,
  NotFoundError,
  PermissionDeniedError,
  RequestError,
  UnprocessableError,
} from '@mlx-training/sdk'
import { EXIT, Several, Stop } from './exit.ts'

/** What --json prints: the service's own errors as it told them; those that it never saw have no status. */
export type Told = Omit<ErrorBody, 'status_code'> & { status_code?: number }

/** `lines`: one a failure. `url`: of the server that was asked. */
export function explain(error: unknown, url: string): { lines: string[]; told: Told; code: number } {
  if (error instanceof Several) return explainSeveral(error, url)
  if (error instanceof Stop) return local(error.message, error.code)
  if (error instanceof ApiError) {
    const fields = error.errors.length > 1 ? error.errors.map(({ field, message }) => `\n  ${field}: ${message}`) : []
    return { lines: [error.message + fields.join('') + hintOf(error)], told: toldBy(error), code: codeOf(error) }
  }
  if (error instanceof RequestError) return local(error.message, EXIT.usage)
  if (error instanceof ConnectionError)
    return local(
      `No answer from ${url} (${reasonOf(error)}). Start the server with: mlx-training serve, or name another with --url`,
      EXIT.unreachable,
    )
  return local(error instanceof Error ? error.message : String(error), EXIT.server)
}

/** The first failure decides, and --json has all of them among its errors. */
function explainSeveral({ failures }: Several, url: string): ReturnType<typeof explain> {
  const all = failures.map(({ name, error }) => ({ name, ...explain(error, url) }))
  const [first] = all as [(typeof all)[number]]
  const errors = all.map(({ name, told }) => ({ field: name, message: told.detail }))
  return { lines: all.flatMap(({ lines }) => lines), told: { ...first.told, errors }, code: first.code }
}

const local = (detail: string, code: number) => ({
  lines: [detail],
  told: { detail, error_type: TYPES[code] ?? 'InternalServerError' },
  code,
})

/** As the service names its own, where it has such. */
const TYPES: Record<number, string> = {
  [EXIT.bad]: 'ResultError',
  [EXIT.usage]: 'ValidationError',
  [EXIT.unreachable]: 'ConnectionError',
  [EXIT.refused]: 'PermissionDeniedError',
  [EXIT.notFound]: 'NotFoundError',
  [EXIT.conflict]: 'ConflictError',
  [EXIT.interrupted]: 'InterruptedError',
}

/** `error_type` of what is no answer of the service (a proxy's): the class that the SDK has for its status. */
function toldBy({ message, status, type, name, errors, requestId, reason }: ApiError): Told {
  return {
    detail: message,
    status_code: status,
    error_type: type ?? name,
    ...(errors.length > 0 && { errors }),
    ...(requestId !== null && { request_id: requestId }),
    ...(reason !== null && { reason }),
  }
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

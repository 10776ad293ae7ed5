/** One hierarchy: a class for each status that programs tell apart, with what the service said. */
import type { ErrorBody } from '@mlx-training/contract'

/** Everything that this client throws, but for the abort reason of a caller's own signal. */
export class MlxTrainingError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** The service answered with an error. */
export class ApiError extends MlxTrainingError {
  readonly status: number
  /** The service's class-like name of the error, e.g. ValidationError; null when something else answered (a proxy). */
  readonly type: string | null
  /** The fields that are wrong, by their dotted paths. */
  readonly errors: NonNullable<ErrorBody['errors']>
  /** To find the request in the server's log. */
  readonly requestId: string | null
  /** What kind of failure it was, where a hosted provider caused it. */
  readonly reason: ErrorBody['reason'] | null
  /** Seconds after which the service says that trying again makes sense. */
  readonly retryAfter: number | null

  constructor(status: number, body: Partial<ErrorBody> | null, text: string, headers: Headers = new Headers()) {
    super(body?.detail ?? (text.trim().slice(0, 500) || `The server answered with status ${status} and no reason`))
    this.status = status
    this.type = body?.error_type ?? null
    this.errors = body?.errors ?? []
    this.requestId = body?.request_id ?? headers.get('x-request-id')
    this.reason = body?.reason ?? null
    this.retryAfter = retryAfterOf(headers)
  }
}

export class BadRequestError extends ApiError {}
export class AuthenticationError extends ApiError {}
export class PermissionDeniedError extends ApiError {}
export class NotFoundError extends ApiError {}
export class ConflictError extends ApiError {}
export class UnprocessableError extends ApiError {}
export class RateLimitError extends ApiError {}
export class InsufficientStorageError extends ApiError {}
/** Any other status from 500. */
export class ServerError extends ApiError {}

/** Nothing was sent, as it would not have been what was meant. */
export class RequestError extends MlxTrainingError {}
/** No answer: the server is not there, or the connection broke. */
export class ConnectionError extends MlxTrainingError {}
/** No answer within the time. */
export class ConnectionTimeoutError extends ConnectionError {}

const CLASSES: Record<number, typeof ApiError> = {
  400: BadRequestError,
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
  422: UnprocessableError,
  429: RateLimitError,
  507: InsufficientStorageError,
}

export function errorOf(status: number, text: string, headers?: Headers): ApiError {
  const Class = CLASSES[status] ?? (status >= 500 ? ServerError : ApiError)
  return new Class(status, bodyOf(text), text, headers)
}

function bodyOf(text: string): Partial<ErrorBody> | null {
  try {
    const body: unknown = JSON.parse(text)
    return typeof body === 'object' && body !== null && 'detail' in body ? (body as Partial<ErrorBody>) : null
  } catch {
    return null
  }
}

/** Retry-After in seconds: a number, or a date (RFC 9110, 10.2.3). */
function retryAfterOf(headers: Headers): number | null {
  const value = headers.get('retry-after')
  if (value === null) return null
  const seconds = Number(value)
  if (Number.isFinite(seconds)) return Math.max(0, seconds)
  const date = Date.parse(value)
  return Number.isNaN(date) ? null : Math.max(0, (date - Date.now()) / 1000)
}

import { type Static, Type } from 'typebox'
import { enumOf } from './common.ts'

/** What can go wrong at a hosted provider, for programs that tell these apart where the status alone does not. */
export const PROVIDER_FAILURES = [
  'no_key',
  'bad_key',
  'forbidden',
  'quota',
  'rate_limit',
  'model_not_found',
  'context_too_long',
  'content_refused',
  'invalid_request',
  'overloaded',
  'timeout',
  'unreachable',
  'redirect',
  'bad_answer',
  'failed',
] as const
export type ProviderFailure = (typeof PROVIDER_FAILURES)[number]

/** Every error answer of the service, on every path. */
export const ErrorBody = Type.Object(
  {
    detail: Type.String({
      description: 'What is wrong, where, and what to do',
    }),
    status_code: Type.Integer(),
    error_type: Type.String(),
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          field: Type.String({
            description: 'Dotted path of the offending field',
          }),
          message: Type.String(),
          given: Type.Optional(Type.Unknown({ description: 'The value that was sent, shortened' })),
        }),
        { description: 'One entry a field, when several are wrong' },
      ),
    ),
    request_id: Type.Optional(Type.String()),
    reason: Type.Optional(
      enumOf(PROVIDER_FAILURES, { description: 'Of a hosted provider: what kind of failure it is' }),
    ),
  },
  { $id: 'Error', description: 'Standard error response' },
)
export type ErrorBody = Static<typeof ErrorBody>

/** The error table: stable code → HTTP status and public `error_type`. */
export const ERRORS = {
  invalid_parameters: [400, 'ValidationError'],
  invalid_json: [400, 'InvalidJSONError'],
  invalid_path: [400, 'ValidationError'],
  context_length: [400, 'ValidationError'],
  invalid_dataset: [400, 'ValidationError'],
  unauthorized: [401, 'AuthenticationError'],
  forbidden: [403, 'PermissionDeniedError'],
  not_found: [404, 'NotFoundError'],
  method_not_allowed: [405, 'MethodNotAllowedError'],
  timeout: [408, 'TimeoutError'],
  conflict: [409, 'ConflictError'],
  payload_too_large: [413, 'PayloadTooLargeError'],
  unsupported_media_type: [415, 'UnsupportedMediaTypeError'],
  unprocessable: [422, 'ValidationError'],
  rate_limited: [429, 'RateLimitError'],
  internal: [500, 'InternalServerError'],
  provider_error: [502, 'ProviderError'],
  unavailable: [503, 'ServiceUnavailableError'],
  provider_timeout: [504, 'ProviderTimeoutError'],
  insufficient_storage: [507, 'InsufficientStorageError'],
} as const satisfies Record<string, readonly [status: number, type: string]>

export type ErrorCode = keyof typeof ERRORS

export type FieldError = NonNullable<ErrorBody['errors']>[number]

/**
 * The one error that crosses module borders. `message` is public text; what only
 * operators may see goes into `cause`.
 */
export class ServiceError extends Error {
  readonly code: ErrorCode
  readonly errors: FieldError[] | undefined
  /** Seconds after which trying again makes sense; sent as Retry-After. */
  readonly retryAfter: number | undefined
  /** Of a hosted provider. */
  readonly reason: ProviderFailure | undefined

  constructor(
    code: ErrorCode,
    detail: string,
    options: {
      errors?: FieldError[]
      retryAfter?: number
      reason?: ProviderFailure
      cause?: unknown
    } = {},
  ) {
    super(detail, { cause: options.cause })
    this.name = 'ServiceError'
    this.code = code
    this.errors = options.errors
    this.retryAfter = options.retryAfter
    this.reason = options.reason
  }

  get status(): number {
    return ERRORS[this.code][0]
  }

  toBody(requestId?: string): ErrorBody {
    const [status_code, error_type] = ERRORS[this.code]
    return {
      detail: this.message,
      status_code,
      error_type,
      ...(this.errors && { errors: this.errors }),
      ...(requestId && { request_id: requestId }),
      ...(this.reason && { reason: this.reason }),
    }
  }
}

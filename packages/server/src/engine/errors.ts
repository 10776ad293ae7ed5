import { type ErrorCode, type FrameOf, ServiceError } from '@mlx-training/contract'

const CODES: Record<FrameOf<'error'>['kind'], ErrorCode> = {
  invalid_model: 'invalid_parameters',
  invalid_dataset: 'invalid_dataset',
  invalid_parameters: 'invalid_parameters',
  context_length: 'context_length',
  out_of_memory: 'unavailable',
  disk_full: 'insufficient_storage',
  non_finite: 'unprocessable',
  lease_lost: 'conflict',
  busy: 'rate_limited',
  protocol: 'internal',
  internal: 'internal',
}

/** The engine's error for a client; the traceback is for the log only. */
export function toServiceError({ kind, message, traceback, retry_after }: FrameOf<'error'>): ServiceError {
  const [, field, said] = /^(response_format[.\w]*): (.*)$/s.exec(message) ?? []
  return new ServiceError(CODES[kind], message, {
    ...(field !== undefined && said !== undefined && { errors: [{ field, message: said }] }),
    cause: traceback ?? undefined,
    retryAfter: retry_after == null ? undefined : Math.ceil(retry_after),
  })
}

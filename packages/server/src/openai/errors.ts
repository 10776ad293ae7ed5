/** Our errors in OpenAI's shape, with the statuses that its SDKs make their classes of. */
import type { ErrorCode, OpenAIError, ServiceError } from '@mlx-training/contract'

const INVALID = 'invalid_request_error'

/** type, code and, where it differs from the error table, status. */
const SHAPES: { [C in ErrorCode]?: [type: string, code: string | null, status?: number] } = {
  context_length: [INVALID, 'context_length_exceeded'],
  // OpenAI knows no 422: what is wrong with a request is BadRequestError.
  unprocessable: [INVALID, null, 400],
  unauthorized: [INVALID, 'invalid_api_key'],
  forbidden: [INVALID, 'permission_denied'],
  not_found: [INVALID, 'model_not_found'],
  conflict: [INVALID, 'model_not_ready'],
  payload_too_large: [INVALID, 'request_too_large'],
  rate_limited: ['rate_limit_error', 'rate_limit_exceeded'],
  timeout: ['timeout_error', null],
  provider_timeout: ['timeout_error', 'provider_timeout'],
  provider_error: ['server_error', 'provider_error'],
  unavailable: ['server_error', 'service_unavailable'],
  internal: ['server_error', null],
  insufficient_storage: ['server_error', null],
}

export const isFacade = (url: string): boolean => /^\/v1(?=[/?]|$)/.test(url)

export const openAIStatus = (error: Pick<ServiceError, 'code' | 'status'>): number =>
  SHAPES[error.code]?.[2] ?? error.status

/** `path`: where it happened. `unknownPath`: it is the path that isn't there, and not a model. */
export function openAIError(error: ServiceError, path = '', unknownPath = false): OpenAIError {
  const tooLong = error.code === 'context_length' || error.reason === 'context_too_long'
  const [type, code] = SHAPES[tooLong ? 'context_length' : error.code] ?? [INVALID, null]
  const prompt = path.startsWith('/v1/chat/') ? 'messages' : 'prompt'
  return {
    error: {
      message: error.message,
      type,
      param: unknownPath ? null : tooLong ? prompt : paramOf(error),
      code: unknownPath ? 'unknown_url' : (codeByField(error) ?? code),
    },
  }
}

/** What is not there, or can't be trained on, by the parameter that named it. */
const CODES: Record<string, string> = {
  id: 'file_not_found',
  fine_tune_id: 'fine_tune_not_found',
  training_file: 'invalid_training_file',
  validation_file: 'invalid_validation_file',
}

function codeByField({ code, errors }: ServiceError): string | undefined {
  const field = errors?.[0]?.field ?? ''
  if (field.endsWith('_file') ? code === 'unprocessable' : code !== 'not_found') return undefined
  return CODES[field]
}

function paramOf({ code, errors }: ServiceError): string | null {
  const field = errors?.[0]?.field
  // `messages.0.content` → `messages[0].content`
  if (field !== undefined) return field === 'body' ? null : field.replaceAll(/\.(\d+)(?=\.|$)/g, '[$1]')
  return code === 'not_found' || code === 'conflict' ? 'model' : null
}

import { type ChatMessage, type ProviderName, ServiceError } from '@mlx-training/contract'
import type { Availability } from './port.ts'

export interface HostedOptions {
  /** For a whole answer, retries included. */
  timeoutMs: number
  /** The SDKs retry 408, 409, 429, 5xx and broken connections, with back-off and jitter. */
  maxRetries: number
}

/** One hosted provider: where it is, its secret, and what its error messages say. */
export interface Remote {
  name: ProviderName
  baseUrl: string
  apiKey: string | null
  keyVariable: string
  urlVariable: string
  /** What to do when the provider doesn't know a model. */
  modelHint: string
}

/** A keyed provider counts as available once it has a key: asking would cost time, and often money. */
export const keyed = ({ apiKey, keyVariable }: Remote): Availability =>
  apiKey === null ? { available: false, reason: `set ${keyVariable}` } : { available: true }

export function needKey({ name, apiKey, keyVariable }: Remote): string {
  if (apiKey === null) throw new ServiceError('unavailable', `${name} is not set up: set ${keyVariable}`)
  return apiKey
}

/** What the errors of both SDKs (one tool generates them) have in common. */
export interface ApiError extends Error {
  status?: number
  headers?: Headers
  error?: unknown
}

/** Waits longer than this are told to the caller (429 and Retry-After) instead of waited for. */
const LONGEST_WAIT_S = 5

/** fetch for the SDKs. Redirects are errors: a provider's key and prompts go to the configured host and nowhere else. */
export const providerFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, { ...init, redirect: 'error' })
  const wait = retryAfter(response.headers)
  if (response.ok || wait === undefined || wait <= LONGEST_WAIT_S) return response
  const headers = new Headers(response.headers)
  headers.set('x-should-retry', 'false')
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers })
}

/** Runs a call under the timeout; what it throws becomes a ServiceError as the port says. */
export async function calling<T>(
  remote: Remote,
  { timeoutMs }: HostedOptions,
  signal: AbortSignal,
  model: string,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = AbortSignal.timeout(timeoutMs)
  try {
    return await call(AbortSignal.any([signal, deadline]))
  } catch (error) {
    if (error instanceof ServiceError) throw error
    if (signal.aborted) throw cancelled(signal)
    if (deadline.aborted)
      throw new ServiceError('provider_timeout', `${remote.name} gave no answer within ${timeoutMs / 1000} s`)
    throw toServiceError(error as ApiError, remote, model)
  }
}

export const cancelled = (signal: AbortSignal): ServiceError =>
  signal.reason instanceof ServiceError ? signal.reason : new ServiceError('timeout', 'The request was cancelled')

/** The turns of a conversation that hosted APIs take without the id of a tool call. */
export function turns(
  messages: readonly ChatMessage[],
): { role: Exclude<ChatMessage['role'], 'tool'>; content: string }[] {
  return messages.map(({ role, content }, i) => {
    if (role !== 'tool') return { role, content }
    const message =
      'hosted providers need the id of a tool call, which a turn here does not carry: send it as a user turn'
    throw new ServiceError('invalid_parameters', `messages.${i}.role: ${message}`, {
      errors: [{ field: `messages.${i}.role`, message, given: role }],
    })
  })
}

function toServiceError(error: ApiError, remote: Remote, model: string): ServiceError {
  const { name, keyVariable } = remote
  const text = redact(messageOf(error), remote)
  const said = text && `: ${text}`
  const options = {
    // The SDK's error holds the whole answer, which may repeat the key.
    cause: new Error(redact(`${error.status ?? ''} ${error.message}`.trim(), remote)),
    retryAfter: retryAfter(error.headers),
  }
  switch (error.status) {
    case undefined:
      return unanswered(error, remote, options)
    case 400:
    case 413:
    case 422:
      return new ServiceError('invalid_parameters', `${name} refused the request${said}`, options)
    case 401:
      return new ServiceError('provider_error', `${name} refused the key in ${keyVariable}: set a valid one`, options)
    case 403:
      // Together's documentation: 403 is a prompt and max_tokens beyond the model's context.
      return name === 'together'
        ? new ServiceError('invalid_parameters', `${name} refused the request${said}`, options)
        : new ServiceError('provider_error', `${name} does not let the key in ${keyVariable} do this${said}`, options)
    case 404:
      return new ServiceError('not_found', `${name} has no model "${model}"${said}. ${remote.modelHint}`, options)
    case 408:
    case 504:
      return new ServiceError('provider_timeout', `${name} took too long to answer`, options)
    case 429:
      return new ServiceError('rate_limited', `${name} limits the rate or the quota of this key${said}`, options)
    case 503:
    case 529:
      return new ServiceError('unavailable', `${name} is overloaded${said}. Try again later`, options)
    default:
      return new ServiceError('provider_error', `${name} answered with status ${error.status}${said}`, options)
  }
}

function unanswered(error: Error, { name, baseUrl, urlVariable }: Remote, options: { cause: Error }): ServiceError {
  const causes = [...causesOf(error)]
  const text = causes.map(({ message }) => message).join(' ')
  const host = new URL(baseUrl).host
  if (/redirect/i.test(text))
    return new ServiceError(
      'unavailable',
      `${name} at ${host} answers with a redirect, which is never followed: set ${urlVariable}`,
      options,
    )
  if (/timed? ?out/i.test(text))
    return new ServiceError('provider_timeout', `${name} at ${host} took too long to answer`, options)
  const code = causes.map((cause) => (cause as NodeJS.ErrnoException).code).find((code) => typeof code === 'string')
  if (code || /fetch failed|terminated|connection error/i.test(text))
    return new ServiceError('unavailable', `${name} can't be reached at ${host}${code ? ` (${code})` : ''}`, options)
  return new ServiceError('provider_error', `${name} at ${host} gave an answer that is not a completion`, options)
}

function* causesOf(error: unknown): Generator<Error> {
  for (let at = error; at instanceof Error; at = at.cause) yield at
}

/** The provider's own words: {error: {message}} (OpenAI, Together), {error: {error: {message}}} (Anthropic's SDK keeps the
 *  whole body), {error: "…"} (Ollama). Empty when there are none, as with a proxy's HTML page. */
export function messageOf(error: ApiError): string {
  let at: unknown = error.error
  for (let depth = 0; depth < 3 && at && typeof at === 'object'; depth++) {
    const { message, error: inner } = at as { message?: unknown; error?: unknown }
    at = typeof message === 'string' ? message : inner
  }
  return typeof at === 'string' ? at : ''
}

/** Without the key, whole or as providers shorten it (`sk-ab**cd`); one line of at most 300 characters. */
function redact(text: string, { apiKey }: Remote): string {
  const clean = (apiKey ? text.replaceAll(apiKey, '[key]') : text)
    .replace(/\b(?:sk|pk|tgp|key)[-_][\w*.-]{4,}/g, '[key]')
    .replace(/\s+/g, ' ')
    .trim()
  return clean.length > 300 ? `${clean.slice(0, 299)}…` : clean
}

/** Seconds of Retry-After, given as a number or a date; undefined without one. */
function retryAfter(headers: Headers | undefined): number | undefined {
  const text = headers?.get('retry-after')
  if (!text) return undefined
  const seconds = Number.isNaN(Number(text)) ? (Date.parse(text) - Date.now()) / 1000 : Number(text)
  return seconds >= 0 ? Math.ceil(seconds) : undefined
}

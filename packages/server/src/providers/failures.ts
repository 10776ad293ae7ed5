import { type ProviderFailure, type ProviderName, ServiceError } from '@mlx-training/contract'
import { redact } from './redact.ts'
import { Stalled, TooLarge } from './transport.ts'

/** One hosted provider: where it is, its secret, and what its error messages say. */
export interface Remote {
  name: ProviderName
  baseUrl: string
  apiKey: string | null
  /** apiKey is a word that takes its place, no secret. */
  keyless?: boolean
  keyVariable: string
  urlVariable: string
  /** What to do when the provider doesn't know a model. */
  modelHint: string
}

/** What the errors of both SDKs (one tool generates them) have in common. */
export interface ApiError extends Error {
  status?: number
  headers?: Headers
  error?: unknown
}

/** A stream ended without telling how the answer did. */
export class CutShort extends Error {}

/** What an event of an error in mid-stream would have been as a status. Anthropic's types, OpenAI's beside them. */
const STATUS_OF: Record<string, number> = {
  invalid_request_error: 400,
  authentication_error: 401,
  invalid_api_key: 401,
  billing_error: 402,
  permission_error: 403,
  not_found_error: 404,
  request_too_large: 413,
  rate_limit_error: 429,
  rate_limit_exceeded: 429,
  insufficient_quota: 429,
  api_error: 500,
  server_error: 500,
  timeout_error: 504,
  overloaded_error: 529,
}

interface Told {
  status: number | undefined
  /** The provider's own words; empty when there are none, as with a proxy's HTML page. */
  text: string
  /** Its codes and types, which are words too. */
  codes: string
}

/** {error: {message}} (OpenAI, Together), {error: {error: {message}}} (Anthropic's SDK keeps the whole body),
 *  {error: "…"} (Ollama). */
function toldBy(error: ApiError): Told {
  let at: unknown = error.error
  let status = error.status
  const codes: string[] = []
  for (let depth = 0; depth < 3 && at && typeof at === 'object'; depth++) {
    const { message, error: inner, code, type } = at as Record<string, unknown>
    for (const word of [code, type]) {
      if (typeof word === 'string') codes.push(word)
      status ??= typeof word === 'number' && word >= 400 && word < 600 ? word : STATUS_OF[String(word)]
    }
    at = typeof message === 'string' ? message : inner
  }
  const text = typeof at === 'string' ? at : ''
  return { status: status ?? (text ? 500 : undefined), text, codes: codes.join(' ') }
}

export const secretOf = ({ apiKey, keyless }: Remote): string | null => (keyless ? null : apiKey)

export const wordsOf = (error: ApiError): string => toldBy(error).text

const QUOTA = /insufficient_quota|billing|credit_limit|credit balance|exceeded your current quota|spend(ing)? limit/i
const CONTEXT =
  /context_length_exceeded|string_above_max_length|exceed_context|context (length|window|size)|prompt is too long|must be <= \d+|too many tokens/i
const REFUSED = /content_policy|content_filter|moderation|content management policy|safety (system|policy)/i
const MODEL = /model_not_found|model_not_available|model .*(does not exist|not found)/i

/** How a failure is told: what kind it is, and whether trying again may help. */
function kindOf(error: ApiError, remote: Remote): { kind: ProviderFailure; again: boolean } {
  const { status, text, codes } = toldBy(error)
  const said = `${codes} ${text}`
  const is = (kind: ProviderFailure, again = false) => ({ kind, again })
  if (status === undefined) return unanswered(error)
  if (status < 400) return is('redirect')
  if (status === 402 || (status < 500 && QUOTA.test(said))) return is('quota')
  if (status === 401) return is('bad_key')
  if (status === 408 || status === 504) return is('timeout', true)
  if (status === 429) return is('rate_limit', true)
  if (status === 409 || status === 425) return is('failed', true)
  if (status === 503 || status === 529) return is('overloaded', true)
  if (status >= 500) return is('failed', status !== 501)
  if (status === 404 || MODEL.test(said)) return is('model_not_found')
  // Together's documentation: 403 is a prompt and max_tokens beyond the model's context.
  if (CONTEXT.test(said) || (status === 403 && remote.name === 'together')) return is('context_too_long')
  if (REFUSED.test(said)) return is('content_refused')
  if (status === 403) return is('forbidden')
  return is(status === 400 || status === 413 || status === 422 ? 'invalid_request' : 'failed')
}

function unanswered(error: Error): { kind: ProviderFailure; again: boolean } {
  const causes = [...causesOf(error)]
  if (causes.some((cause) => cause instanceof TooLarge)) return { kind: 'bad_answer', again: false }
  const text = causes.map(({ message }) => message).join(' ')
  if (causes.some((cause) => cause instanceof Stalled) || /timed? ?out/i.test(text))
    return { kind: 'timeout', again: true }
  const code = codeOf(error)
  // What is wrong with a certificate or a name stays wrong.
  if (code) return { kind: 'unreachable', again: !/CERT|TLS|SSL|SIGNED|UNABLE|ENOTFOUND/.test(code) }
  if (error instanceof CutShort) return { kind: 'bad_answer', again: true }
  if (/fetch failed|terminated|connection error/i.test(text)) return { kind: 'unreachable', again: true }
  return { kind: 'bad_answer', again: false }
}

/** Milliseconds that the provider asks to wait before another try (0: it doesn't say); null: don't. */
export function pauseOf(error: unknown, remote: Remote): number | null {
  if (error instanceof ServiceError) return null
  const { headers } = error as ApiError
  const wish = headers?.get('x-should-retry')
  const again = wish === 'true' || (wish !== 'false' && kindOf(error as ApiError, remote).again)
  return again ? (retryAfterMs(headers) ?? 0) : null
}

/** What was thrown as the client sees it: the kind, what to do, and the provider's words; nothing of a key. */
export function toServiceError(error: ApiError, remote: Remote, model: string): ServiceError {
  const { name, keyVariable, urlVariable, baseUrl } = remote
  const secret = secretOf(remote)
  const { kind } = kindOf(error, remote)
  const { status, text } = toldBy(error)
  const words = redact(text, secret)
  const said = words && `: ${words}`
  const host = new URL(baseUrl).host
  const wait = retryAfterMs(error.headers)
  const options = {
    reason: kind,
    // The SDK's error holds the whole answer, which may repeat the key.
    cause: new Error(redact([...causesOf(error)].map(({ message }) => message).join(': '), secret)),
    ...(wait !== undefined && { retryAfter: Math.ceil(wait / 1000) }),
  }
  const as = (code: ConstructorParameters<typeof ServiceError>[0], detail: string) =>
    new ServiceError(code, `${name} ${detail}`, options)
  switch (kind) {
    case 'bad_key':
      return as('provider_error', `refused the key in ${keyVariable}, set a valid one${said}`)
    case 'forbidden':
      return as('provider_error', `does not let the key in ${keyVariable} do this${said}`)
    case 'quota':
      return as(
        'provider_error',
        `says that the account of ${keyVariable} has no credit left, or reached its limit${said}`,
      )
    case 'rate_limit':
      return as('rate_limited', `limits the rate of this key${said}`)
    case 'model_not_found':
      return as(
        'not_found',
        `has no model "${model}"${said}. ${remote.modelHint}${words ? '' : `, and at ${urlVariable}`}`,
      )
    case 'context_too_long':
      return as('context_length', `can't take so much: prompt and max_tokens exceed the model's context${said}`)
    case 'content_refused':
      return as('invalid_parameters', `refuses this content${said}`)
    case 'invalid_request':
      return as('invalid_parameters', `refused the request${said}`)
    case 'overloaded':
      return as('unavailable', `is overloaded${said}. Try again later`)
    case 'timeout': {
      const stalled = [...causesOf(error)].find((cause) => cause instanceof Stalled)
      return as(
        'provider_timeout',
        stalled ? `at ${host} sent nothing for ${stalled.limit}` : `took too long to answer${said}`,
      )
    }
    case 'redirect':
      return as('unavailable', `at ${host} answers with a redirect, which is never followed: set ${urlVariable}`)
    case 'unreachable':
      return as('unavailable', unreachable(host, codeOf(error), urlVariable))
    case 'bad_answer': {
      const large = [...causesOf(error)].find((cause) => cause instanceof TooLarge)
      if (large) return as('provider_error', `at ${host} ${large.message}, which is no answer`)
      const what =
        error instanceof CutShort ? 'ended its answer in the middle' : 'gave an answer that is not a completion'
      return as('provider_error', `at ${host} ${what}`)
    }
    default:
      return as('provider_error', `answered with status ${status}${said}`)
  }
}

function unreachable(host: string, code: string | undefined, urlVariable: string): string {
  const told = code ? ` (${code})` : ''
  if (code && /CERT|TLS|SSL|SIGNED|UNABLE/.test(code))
    return `at ${host} can't be trusted, its certificate or TLS is not valid${told}: see ${urlVariable}`
  if (code && /ENOTFOUND|EAI_/.test(code))
    return `can't be reached: there is no address for ${host}${told}, see ${urlVariable}`
  return `can't be reached at ${host}${told}`
}

function* causesOf(error: unknown): Generator<Error> {
  for (let at = error; at instanceof Error; at = at.cause) yield at
}

function codeOf(error: Error): string | undefined {
  for (const cause of causesOf(error)) {
    const { code } = cause as NodeJS.ErrnoException
    if (typeof code === 'string') return code
  }
  return undefined
}

/** Of Retry-After in seconds or as a date, or of OpenAI's retry-after-ms; undefined without one. */
export function retryAfterMs(headers: Headers | undefined): number | undefined {
  const precise = Number(headers?.get('retry-after-ms') ?? Number.NaN)
  if (precise >= 0) return precise
  const text = headers?.get('retry-after')
  if (!text) return undefined
  const ms = Number.isNaN(Number(text)) ? Date.parse(text) - Date.now() : 1000 * Number(text)
  return Number.isNaN(ms) || ms < 0 ? undefined : Math.min(ms, 86_400_000)
}

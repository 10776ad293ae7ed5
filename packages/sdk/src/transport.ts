/** Requests with time limits and retries. */
import { ApiError, ConnectionError, ConnectionTimeoutError, errorOf, RequestError } from './errors.ts'

export interface ClientOptions {
  /** Default http://127.0.0.1:8200 */
  baseURL?: string
  apiKey?: string
  /** Milliseconds for an answer, or for a stream to begin, a try. Default 60,000; calls that work longer have their own. */
  timeout?: number
  /** Further tries of what failed for a reason that passes. Default 2. */
  maxRetries?: number
  /** Sent with every request. */
  headers?: Record<string, string>
  /** Default: the global one. */
  fetch?: typeof fetch
}

export interface RequestOptions {
  signal?: AbortSignal | undefined
  timeout?: number
  maxRetries?: number
  headers?: Record<string, string>
}

/** What fetch takes as a body, in Node and in browsers. */
export type Body = NonNullable<RequestInit['body']>

export interface Call extends RequestOptions {
  method: 'GET' | 'POST' | 'DELETE'
  path: string
  query?: Record<string, unknown>
  json?: unknown
  /** Of the body, when it is not JSON. A stream can't be sent twice. */
  body?: Body
  /** Doing it twice is the same as once: it may be tried again whatever became of the first try. */
  safe?: boolean
}

export const SECOND = 1000
export const MINUTE = 60 * SECOND

/** Statuses of a server that did nothing, or that is about to come back. */
const BUSY = [429, 503]
const PASSING = [408, 500, 502, 504]
const FIRST_WAIT = 500
const LONGEST_WAIT = 8 * SECOND
/** Of what a server may ask for with Retry-After. */
const LONGEST_ASKED = MINUTE

export class Transport {
  readonly #base: string
  readonly #options: ClientOptions

  constructor(options: ClientOptions) {
    this.#base = (options.baseURL ?? 'http://127.0.0.1:8200').replace(/\/+$/, '')
    this.#options = options
  }

  json<T>(call: Call): Promise<T> {
    return this.#tried(call, (response) => response.json() as Promise<T>)
  }

  text(call: Call): Promise<string> {
    return this.#tried(call, (response) => response.text())
  }

  /** The answer once its head is there; ApiError when it is not a good one. */
  send(call: Call): Promise<Response> {
    return this.#tried(call, async (response) => response)
  }

  /** The time limit is that of `read`, too. */
  async #tried<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    const tries = 1 + (call.maxRetries ?? this.#options.maxRetries ?? 2)
    for (let nth = 1; ; nth++) {
      try {
        return await this.#once(call, read)
      } catch (error) {
        if (nth >= tries || !mayRetry(error, call)) throw error
        await pause(waitBefore(nth, error), call.signal)
      }
    }
  }

  async #once<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    const { method, path, query, json, body, signal } = call
    signal?.throwIfAborted()
    const timeout = call.timeout ?? this.#options.timeout ?? MINUTE
    const late = new AbortController()
    const send = this.#options.fetch ?? fetch
    const headers = headersOf({
      accept: 'application/json, text/event-stream;q=0.9, */*;q=0.1',
      ...(this.#options.apiKey !== undefined && { 'x-api-key': this.#options.apiKey }),
      ...(json !== undefined && { 'content-type': 'application/json' }),
      ...this.#options.headers,
      ...call.headers,
    })
    const timer = setTimeout(() => late.abort(), timeout)
    try {
      const response = await send(this.#base + path + queryOf(query), {
        method,
        headers,
        signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal,
        ...(json !== undefined && { body: JSON.stringify(json) }),
        // Node wants to be told that a stream is sent while the answer is not there yet.
        ...(body !== undefined && ({ body, duplex: 'half' } as RequestInit)),
      })
      if (!response.ok) throw errorOf(response.status, await response.text(), response.headers)
      return await read(response)
    } catch (error) {
      if (error instanceof ApiError) throw error
      if (signal?.aborted) throw signal.reason
      if (late.signal.aborted)
        throw new ConnectionTimeoutError(`${method} ${path}: no answer within ${timeout / SECOND} s`, { cause: error })
      throw new ConnectionError(`${method} ${this.#base}${path}: ${reasonOf(error)}`, { cause: error })
    } finally {
      clearTimeout(timer)
    }
  }
}

/** RequestError that names the header and not its value, which may be a key. */
function headersOf(given: Record<string, string>): Headers {
  const headers = new Headers()
  for (const [name, value] of Object.entries(given))
    try {
      headers.set(name, value)
    } catch {
      throw new RequestError(`The header ${name} can't have that value: look for line breaks and other odd characters`)
    }
  return headers
}

function mayRetry(error: unknown, { safe, method, body }: Call): boolean {
  if (body instanceof ReadableStream) return false
  const again = safe ?? method === 'GET'
  if (error instanceof ApiError) return BUSY.includes(error.status) || (again && PASSING.includes(error.status))
  return error instanceof ConnectionError && again
}

/** Doubling, with jitter so that clients do not come back together; or as long as the server says. */
function waitBefore(nth: number, error: unknown): number {
  if (error instanceof ApiError && error.retryAfter !== null) return Math.min(error.retryAfter * SECOND, LONGEST_ASKED)
  return Math.min(FIRST_WAIT * 2 ** (nth - 1), LONGEST_WAIT) * (0.5 + Math.random() / 2)
}

/** Ends early, with the signal's reason, when it aborts. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resume, stop) => {
    if (signal?.aborted) return stop(signal.reason)
    const aborted = () => {
      clearTimeout(timer)
      stop(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', aborted)
      resume()
    }, milliseconds)
    signal?.addEventListener('abort', aborted, { once: true })
  })
}

/** fetch says "fetch failed" and hides the reason in its cause. */
export function reasonOf(error: unknown): string {
  const { message, cause } = error as Error & { cause?: Error & { code?: string } }
  return cause ? cause.message || cause.code || message : message
}

function queryOf(query: Record<string, unknown> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined)
  if (given.length === 0) return ''
  const text = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value))
  return `?${new URLSearchParams(given.map(([name, value]): [string, string] => [name, text(value)]))}`
}

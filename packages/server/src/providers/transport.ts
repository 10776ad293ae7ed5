/** What one HTTP exchange with a provider may take. */
export interface Limits {
  /** To the first byte of the answer, connecting included (for which Node itself allows 10 s). */
  firstByteMs: number
  /** Between two pieces of it; a comment that keeps a stream alive is one. */
  idleMs: number
  maxBytes: number
}

export class Stalled extends Error {
  constructor(readonly limit: string) {
    super(`Nothing came within ${limit}`)
  }
}

export class TooLarge extends Error {
  constructor(what: string) {
    super(`sent ${what}`)
  }
}

/** Of an error's body, which is only read for its words. */
const MAX_ERROR_BYTES = 64 * 1024
/** Of one event or line. */
const MAX_LINE_BYTES = 1024 * 1024

/** What goes out. Both SDKs add headers of OPENAI_CUSTOM_HEADERS and ANTHROPIC_CUSTOM_HEADERS, whichever host they talk to;
 *  keys and hosts come from the configuration alone. */
const SENT = /^(accept|content-type|user-agent|anthropic-version|x-stainless-.*)$/

/** fetch for the SDKs: no redirects (a provider's key and prompts go to the configured host and nowhere else), the
 *  configured key, and an answer within its limits. */
export function createTransport(
  apiKey: string,
  limits: Limits,
  onBytes: (bytes: Uint8Array) => void = () => {},
): typeof fetch {
  return async (input, init = {}) => {
    const stop = new AbortController()
    const signal = init.signal ? AbortSignal.any([init.signal, stop.signal]) : stop.signal
    const begun = performance.now()
    const stall = (first: boolean) => {
      const limit = first ? limits.firstByteMs : limits.idleMs
      const left = first ? Math.max(1, begun + limit - performance.now()) : limit
      return setTimeout(() => stop.abort(new Stalled(`${limit / 1000} s`)), left)
    }
    const headers = new Headers([...new Headers(init.headers)].filter(([name]) => SENT.test(name)))
    headers.set('authorization', `Bearer ${apiKey}`)
    const timer = stall(true)
    let response: Response
    try {
      response = await fetch(input, { ...init, headers, redirect: 'manual', signal })
    } finally {
      clearTimeout(timer)
    }
    if (!response.body) return response
    const body = limited(response, limits.maxBytes, stall, onBytes)
    return new Response(body, { status: response.status, statusText: response.statusText, headers: response.headers })
  }
}

/** The answer's body; errors with Stalled or TooLarge. Timers run only while a piece is waited for, so a slow reader of ours is not
 *  the provider's fault. */
function limited(
  response: Response,
  maxBytes: number,
  stall: (first: boolean) => NodeJS.Timeout,
  onBytes: (bytes: Uint8Array) => void,
): ReadableStream<Uint8Array> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  const byLine = /event-stream|ndjson/.test(response.headers.get('content-type') ?? '')
  let bytes = 0
  let line = 0
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const timer = stall(bytes === 0)
        try {
          const { done, value } = await reader.read()
          if (done) return controller.close()
          bytes += value.length
          const newline = Math.max(value.lastIndexOf(10), value.lastIndexOf(13))
          line = newline < 0 ? line + value.length : value.length - newline - 1
          if (!response.ok && bytes > MAX_ERROR_BYTES) {
            controller.close()
            return await reader.cancel()
          }
          if (bytes > maxBytes) throw new TooLarge(`more than ${maxBytes} bytes`)
          if (byLine && line > MAX_LINE_BYTES) throw new TooLarge(`a line of more than ${MAX_LINE_BYTES} bytes`)
          onBytes(value)
          controller.enqueue(value)
        } catch (error) {
          controller.error(error)
          await reader.cancel(error).catch(() => {})
        } finally {
          clearTimeout(timer)
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}

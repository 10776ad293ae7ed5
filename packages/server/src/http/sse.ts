import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { Metrics } from '../metrics/metrics.ts'

export interface SseTimes {
  /** Between comments that keep proxies from closing an idle stream. */
  heartbeatMs: number
  /** A client that has read nothing for so long is cut. */
  stalledMs: number
}

/** What is sent: its JSON as data, `id` and `type` as the names of the stream's own fields, too. */
export interface StreamEvent {
  id: number | string
  type: string
}

export const EVENT_STREAM = 'text/event-stream; charset=utf-8'

export const SSE_TIMES: SseTimes = { heartbeatMs: 15_000, stalledMs: 20_000 }

/** What a browser waits before it connects again. */
const RETRY = 'retry: 2000\n\n'

/** Of batches that several clients get: the text is made once, and these bytes are what all their sockets hold. */
const ENCODED = new WeakMap<readonly StreamEvent[], Buffer>()

/**
 * Sends batches as server-sent events, one batch in memory at a time: the next is asked for when the client has taken
 * the last. Resolves when the batches end, the client leaves or stalls, or the signal aborts; the response is over then.
 */
export async function sendEvents(
  reply: FastifyReply,
  batches: (signal: AbortSignal) => AsyncIterable<readonly StreamEvent[]>,
  closing: AbortSignal,
  metrics: Pick<Metrics, 'streams' | 'streamsOpened' | 'streamsCut'>,
  times: SseTimes = SSE_TIMES,
): Promise<void> {
  reply.hijack()
  const response = reply.raw
  const stop = new AbortController()
  const abort = () => stop.abort()
  response.on('close', abort)
  closing.addEventListener('abort', abort)
  response.writeHead(200, {
    ...(reply.getHeaders() as Record<string, string>),
    'content-type': EVENT_STREAM,
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  const heartbeat = setInterval(() => {
    if (!response.writableNeedDrain) response.write(':\n\n')
  }, times.heartbeatMs)
  metrics.streamsOpened.inc()
  metrics.streams.inc()
  let taken = true
  try {
    taken = await write(response, RETRY, times.stalledMs, stop)
    for await (const batch of batches(stop.signal)) {
      if (stop.signal.aborted) break
      taken = await write(response, encoded(batch), times.stalledMs, stop)
    }
  } finally {
    clearInterval(heartbeat)
    metrics.streams.dec()
    if (!taken) metrics.streamsCut.inc()
    closing.removeEventListener('abort', abort)
    response.off('close', abort)
    response.end()
  }
}

function encoded(batch: readonly StreamEvent[]): Buffer {
  const known = ENCODED.get(batch)
  if (known) return known
  const bytes = Buffer.from(batch.map(line).join(''))
  ENCODED.set(batch, bytes)
  return bytes
}

/** JSON has no raw line breaks, so one data line is enough. */
const line = (event: StreamEvent) => `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`

/** Waits until the client has taken it; one that takes nothing for `stalledMs` is cut, `stop` aborted, and this false. */
export async function write(
  response: ServerResponse,
  text: string | Buffer,
  stalledMs: number,
  stop: AbortController,
): Promise<boolean> {
  if (stop.signal.aborted || response.write(text)) return true
  let taken = true
  const stalled = setTimeout(() => {
    taken = false
    stop.abort()
    response.destroy()
  }, stalledMs)
  try {
    await once(response, 'drain', { signal: stop.signal })
  } catch (error) {
    if (!stop.signal.aborted) throw error
  } finally {
    clearTimeout(stalled)
  }
  return taken
}

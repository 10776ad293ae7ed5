import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { JobEvent } from '@mlx-training/contract'
import type { FastifyReply } from 'fastify'

export interface SseTimes {
  /** Between comments that keep proxies from closing an idle stream. */
  heartbeatMs: number
  /** A client that has read nothing for so long is cut. */
  stalledMs: number
}

export const EVENT_STREAM = 'text/event-stream; charset=utf-8'

export const SSE_TIMES: SseTimes = { heartbeatMs: 15_000, stalledMs: 30_000 }

/** What a browser waits before it connects again. */
const RETRY_MS = 2000

/**
 * Sends batches as server-sent events, one batch in memory at a time: the next is asked for when the client has taken
 * the last. Resolves when the batches end, the client leaves or stalls, or the signal aborts; the response is over then.
 */
export async function sendEvents(
  reply: FastifyReply,
  batches: (signal: AbortSignal) => AsyncIterable<JobEvent[]>,
  closing: AbortSignal,
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
  try {
    await write(response, `retry: ${RETRY_MS}\n\n`, times.stalledMs, stop)
    for await (const batch of batches(stop.signal)) {
      if (stop.signal.aborted) break
      await write(response, batch.map(line).join(''), times.stalledMs, stop)
    }
  } finally {
    clearInterval(heartbeat)
    closing.removeEventListener('abort', abort)
    response.off('close', abort)
    response.end()
  }
}

/** JSON has no raw line breaks, so one data line is enough. */
const line = (event: JobEvent) => `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`

/** Waits until the client has taken it; one that takes nothing for `stalledMs` is cut, and `stop` aborted. */
export async function write(
  response: ServerResponse,
  text: string,
  stalledMs: number,
  stop: AbortController,
): Promise<void> {
  if (stop.signal.aborted || response.write(text)) return
  const stalled = setTimeout(() => {
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
}

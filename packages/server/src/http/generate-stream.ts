import type { FastifyReply, FastifyRequest } from 'fastify'
import { logError, toServiceError } from './errors.ts'
import { EVENT_STREAM, SSE_TIMES, type SseTimes, write } from './sse.ts'

/**
 * Sends an answer as server-sent events. Nothing is sent before the first piece, so that what fails until then (a full
 * queue, a model that isn't there) is answered with its own status; what fails later is an event of that name.
 * An answer that nobody reads any more is cancelled, since leaving the loop ends the generator.
 */
export async function streamAnswer<Piece, Whole>(
  reply: FastifyReply,
  request: FastifyRequest,
  pieces: AsyncGenerator<Piece, Whole>,
  endOf: (whole: Whole) => object,
  times: SseTimes = SSE_TIMES,
): Promise<void> {
  let next = await pieces.next()
  reply.hijack()
  const response = reply.raw
  const stop = new AbortController()
  const abort = () => stop.abort()
  response.on('close', abort)
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
    while (!next.done && !stop.signal.aborted) {
      await write(response, `data: ${JSON.stringify(next.value)}\n\n`, times.stalledMs, stop)
      next = await pieces.next()
    }
    if (next.done) await write(response, `data: ${JSON.stringify(endOf(next.value))}\n\n`, times.stalledMs, stop)
  } catch (error) {
    const told = toServiceError(error)
    logError(told, request)
    const body = JSON.stringify(told.toBody(told.status >= 500 ? request.id : undefined))
    if (!stop.signal.aborted) await write(response, `event: error\ndata: ${body}\n\n`, times.stalledMs, stop)
  } finally {
    clearInterval(heartbeat)
    response.off('close', abort)
    if (!next.done) await pieces.return(undefined as never)
    response.end()
  }
}

import type { ServiceError } from '@mlx-training/contract'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { logError, toServiceError } from './errors.ts'
import { EVENT_STREAM, SSE_TIMES, type SseTimes, write } from './sse.ts'

/** What a stream says, as text of server-sent events. */
export interface Wording<Piece, Whole> {
  piece(piece: Piece): string
  end(whole: Whole): string
  /** Of what fails after the first piece. */
  error(told: ServiceError): string
}

export const data = (value: object): string => `data: ${JSON.stringify(value)}\n\n`

/** Pieces as they are, at last `endOf` the whole; an error is an event of that name with the body of an error answer. */
export const ownWording = <Whole>(
  request: FastifyRequest,
  endOf: (whole: Whole) => object,
): Wording<object, Whole> => ({
  piece: data,
  end: (whole) => data(endOf(whole)),
  error: (told) => `event: error\n${data(told.toBody(told.status >= 500 ? request.id : undefined))}`,
})

/**
 * Sends an answer as server-sent events. Nothing is sent before the first piece, so that what fails until then (a full
 * queue, a model that isn't there) is answered with its own status; what fails later is told by the wording.
 * `eager`: headers go out at once, for pieces that tell failures themselves and may take long to come.
 * An answer that nobody reads any more is cancelled, since leaving the loop ends the generator.
 */
export async function streamAnswer<Piece, Whole>(
  reply: FastifyReply,
  request: FastifyRequest,
  pieces: AsyncGenerator<Piece, Whole>,
  wording: Wording<Piece, Whole>,
  times: SseTimes = SSE_TIMES,
  eager = false,
): Promise<void> {
  let next = eager ? undefined : await pieces.next()
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
    if (eager) response.write(':\n\n')
    next ??= await pieces.next()
    while (!next.done && !stop.signal.aborted) {
      await write(response, wording.piece(next.value), times.stalledMs, stop)
      next = await pieces.next()
    }
    if (next.done) await write(response, wording.end(next.value), times.stalledMs, stop)
  } catch (error) {
    const told = toServiceError(error)
    logError(told, request)
    if (!stop.signal.aborted) await write(response, wording.error(told), times.stalledMs, stop)
  } finally {
    clearInterval(heartbeat)
    response.off('close', abort)
    if (!next?.done) await pieces.return(undefined as never)
    response.end()
  }
}

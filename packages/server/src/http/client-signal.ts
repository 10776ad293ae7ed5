import { ServiceError } from '@mlx-training/contract'
import type { FastifyReply } from 'fastify'

/** Aborts when the client leaves before its answer, or the server closes. */
export function clientSignal(reply: FastifyReply, closing: AbortSignal): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController()
  const left = () => controller.abort(new ServiceError('timeout', 'The client left before its answer'))
  const closed = () => controller.abort(new ServiceError('unavailable', 'The server is shutting down'))
  reply.raw.on('close', left)
  closing.addEventListener('abort', closed)
  if (closing.aborted) closed()
  if (reply.raw.destroyed) left()
  return {
    signal: controller.signal,
    release: () => {
      reply.raw.off('close', left)
      closing.removeEventListener('abort', closed)
    },
  }
}

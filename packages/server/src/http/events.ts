import { ServiceError } from '@mlx-training/contract'
import type { FastifyRequest } from 'fastify'
import type { Job } from '../jobs/port.ts'

/** Where the client wants to go on. Last-Event-ID wins over ?after=: a browser that connects again sends both, and only
 *  the header has moved on. */
export function cursorOf(request: FastifyRequest): number {
  const header = request.headers['last-event-id']
  if (header === undefined || header === '') return (request.query as { after?: number }).after ?? 0
  const id = Number(header)
  if (!/^\d{1,15}$/.test(String(header)))
    throw new ServiceError('invalid_parameters', 'Last-Event-ID must be the id of an event: a whole number from 0')
  return id
}

/** An id that this job has not reached belongs to an experiment that was replaced by it: the new one is told from its start. */
export const startAfter = (job: Job, cursor: number): number => (cursor > job.lastEventId ? 0 : cursor)

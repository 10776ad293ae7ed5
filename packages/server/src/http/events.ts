import { ServiceError } from '@mlx-training/contract'
import type { FastifyRequest } from 'fastify'
import type { Job } from '../jobs/port.ts'

/**
 * The event after which a client wants to go on. Last-Event-ID wins over ?after=: a browser that connects again sends both,
 * and only the header has moved on. A header that this job has not reached is of an experiment that was replaced by it:
 * the new one is told from its start. An ?after= beyond its end asks for what is still to come.
 */
export function startAfter(request: FastifyRequest, job: Job): number {
  const header = request.headers['last-event-id']
  if (header === undefined || header === '')
    return Math.min((request.query as { after?: number }).after ?? 0, job.lastEventId)
  const id = Number(header)
  if (!/^\d{1,15}$/.test(String(header)))
    throw new ServiceError('invalid_parameters', 'Last-Event-ID must be the id of an event: a whole number from 0')
  return id > job.lastEventId ? 0 : id
}

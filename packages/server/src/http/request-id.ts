/** Request ids: in X-Request-Id of every answer, and as request_id in every log line that a request leads to. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

export const newRequestId = () => `req_${randomUUID()}`

/** The client's own, if it can do no harm in a log; its lines and ours can then be put together. */
export function requestId({ headers }: Pick<IncomingMessage, 'headers'>): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[\w.:=+/-]{1,128}$/.test(given) ? given : newRequestId()
}

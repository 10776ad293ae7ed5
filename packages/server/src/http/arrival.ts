/** limitArrival: a request must have come in within a time, but a file may take as long as it keeps coming. */
import type { FastifyInstance } from 'fastify'

/**
 * Node's own limit (server.requestTimeout) is the same for all routes, so it is off and this stands in its place: what is
 * overdue is answered as Node would have it, by the handler of client errors.
 */
export function limitArrival(app: FastifyInstance, milliseconds: number): void {
  app.addHook('onRequest', async (request) => {
    const { raw } = request
    const hasBody = raw.headers['content-length'] !== undefined || raw.headers['transfer-encoding'] !== undefined
    if (!hasBody || raw.complete || request.routeOptions.config.upload) return
    const timer = setTimeout(() => {
      if (raw.complete) return
      const overdue = Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
      app.server.emit('clientError', overdue, raw.socket)
    }, milliseconds)
    const arrived = () => clearTimeout(timer)
    raw.once('end', arrived)
    raw.once('close', arrived)
  })
}

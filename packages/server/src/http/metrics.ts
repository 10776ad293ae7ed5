import { ROUTES } from '@mlx-training/contract'
import type { FastifyInstance } from 'fastify'
import type { Metrics } from '../metrics/metrics.ts'
import type { Handler } from './routes.ts'

export const metricsText =
  (metrics: Metrics): Handler<'metrics'> =>
  () =>
    metrics.text()

/** Labels are patterns of routes, never paths, so that no client can make new ones. Streams, as long as they were open,
 *  would say nothing of how fast this server is. */
export function measureAnswers(app: FastifyInstance, { http }: Metrics): void {
  app.addHook('onResponse', async ({ method, routeOptions }, reply) => {
    const { url: route = 'none', config } = routeOptions
    if (config.name && 'stream' in ROUTES[config.name] && reply.statusCode === 200) return
    http.observe({ method, route, status: reply.statusCode }, reply.elapsedTime / 1000)
  })
}

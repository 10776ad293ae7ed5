import { ROUTES, type Route, type RouteName } from '@mlx-training/contract'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Static, TSchema } from 'typebox'

type Part<N extends RouteName, P extends keyof Route> =
  (typeof ROUTES)[N] extends Record<P, infer S extends TSchema> ? Static<S> : undefined

/** What the table's schemas let through, defaults filled in. */
export interface Input<N extends RouteName> {
  params: Part<N, 'params'>
  query: Part<N, 'querystring'>
  body: Part<N, 'body'>
  request: FastifyRequest
  reply: FastifyReply
}

type Answer<N extends RouteName> = (typeof ROUTES)[N] extends { text: string } ? string : Part<N, 'response'>

/** Answers with the table's response or text; a stream writes its answer itself. */
export type Handler<N extends RouteName> = (input: Input<N>) => Promise<Answer<N>>

/** One handler for every route of the table: a missing one does not compile. */
export type Handlers = { [N in RouteName]: Handler<N> }

export const ROUTE_ENTRIES = Object.entries(ROUTES) as [RouteName, Route][]

export function registerRoutes(app: FastifyInstance, handlers: Handlers): void {
  for (const [name, route] of ROUTE_ENTRIES) {
    // The table's schemas have checked the parts, so each is what its handler takes.
    const handler = handlers[name] as (input: unknown) => Promise<unknown>
    const { method, path: url, params, querystring, body, auth, scope, text } = route
    app.route({
      method,
      url,
      schema: { ...(params && { params }), ...(querystring && { querystring }), ...(body && { body }) },
      config: { access: { auth, scope }, name },
      handler: (request, reply) => {
        if (text) reply.type(text)
        return handler({ params: request.params, query: request.query, body: request.body, request, reply })
      },
    })
  }
}

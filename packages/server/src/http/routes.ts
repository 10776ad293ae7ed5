import { ROUTES, type Route, type RouteName } from '@mlx-training/contract'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Static, TSchema } from 'typebox'
import { acceptUploads } from './upload.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The body is a file, which the handler reads. */
    upload?: boolean
  }
}

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

type Answer<N extends RouteName> = (typeof ROUTES)[N] extends { text: string }
  ? string
  : (typeof ROUTES)[N] extends { file: string }
    ? FastifyReply
    : Part<N, 'response'>

/** Answers with the table's response, text or file; a stream writes its answer itself. */
export type Handler<N extends RouteName> = (input: Input<N>) => Promise<Answer<N>>

/** One handler for every route of the table: a missing one does not compile. */
export type Handlers = { [N in RouteName]: Handler<N> }

export const ROUTE_ENTRIES = Object.entries(ROUTES) as [RouteName, Route][]

export async function registerRoutes(app: FastifyInstance, handlers: Handlers): Promise<void> {
  const add = (to: FastifyInstance, uploads: boolean) => {
    for (const [name, route] of ROUTE_ENTRIES)
      if (uploads === (route.upload ?? false)) addRoute(to, name, route, handlers)
  }
  add(app, false)
  await app.register(async (taking) => {
    await acceptUploads(taking)
    add(taking, true)
  })
}

function addRoute(app: FastifyInstance, name: RouteName, route: Route, handlers: Handlers): void {
  // The table's schemas have checked the parts, so each is what its handler takes.
  const handler = handlers[name] as (input: unknown) => Promise<unknown>
  const { method, path: url, params, querystring, body, auth, scope, status, text, file, upload } = route
  app.route({
    method,
    url,
    schema: { ...(params && { params }), ...(querystring && { querystring }), ...(body && { body }) },
    config: { access: { auth, scope }, name, ...(upload && { upload }) },
    handler: (request, reply) => {
      if (status) reply.code(status)
      if (text ?? file) reply.type((text ?? file) as string)
      return handler({ params: request.params, query: request.query, body: request.body, request, reply })
    },
  })
}

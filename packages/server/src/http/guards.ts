import { hostname, networkInterfaces } from 'node:os'
import { type Route, ServiceError } from '@mlx-training/contract'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { demandScope, type KeyCheck, type Principal } from '../auth/check.ts'
import type { Config } from '../config.ts'
import { OpenRequests } from './open-requests.ts'

declare module 'fastify' {
  interface FastifyRequest {
    principal: Principal | null
  }
  interface FastifyContextConfig {
    /** Who may call the route. A route without it is refused: open is something to be said. */
    access?: Pick<Route, 'auth' | 'scope'>
  }
}

type Guarded = Pick<Config, 'host' | 'allowedHosts' | 'requireAuth'>

/** What every request passes before anything of it is read: Host, Origin, encoding, then the key that its route asks for. */
export function addGuards(
  app: FastifyInstance,
  config: Guarded,
  checkKey: KeyCheck,
  open: OpenRequests = new OpenRequests(),
): void {
  const hosts = allowedHosts(config)
  app.decorateRequest('principal', null)
  app.addHook('onRoute', (route) => {
    if (!route.config?.access && !isDocs(route.url)) throw new Error(`Route ${route.url} does not say who may call it`)
  })
  app.addHook('onRequest', async (request, reply) => {
    checkHost(request, hosts)
    checkOrigin(request)
    checkEncoding(request)
    if (!request.is404) await authorise(request, config.requireAuth, checkKey)
    if (request.principal) open.add(request.principal.id, reply.raw)
  })
}

export const isDocs = (url: string) => url === '/openapi.json' || url === '/docs' || url.startsWith('/docs/')

async function authorise(request: FastifyRequest, requireAuth: boolean, checkKey: KeyCheck): Promise<void> {
  const access = request.routeOptions.config.access
  if (!access) {
    if (isDocs(request.routeOptions.url ?? '')) return
    throw new ServiceError('forbidden', 'This path is closed')
  }
  if (access.auth === 'none') return
  const key = presentedKey(request)
  if (key === null) {
    if (access.auth === 'optional' && !requireAuth) return
    throw new ServiceError(
      'unauthorized',
      'An API key is needed: send it as X-API-Key (or Authorization: Bearer). The admin key is in admin.key in the ' +
        "server's data folder, unless MLX_TRAINING_API_KEY sets it",
    )
  }
  request.principal = await checkKey(key, request.ip)
  demandScope(request.principal, access.scope)
}

function presentedKey(request: FastifyRequest): string | null {
  // Empty is what `-H "X-API-Key: $UNSET"` sends, and SDKs that are to go without a key: none.
  const header = String(request.headers['x-api-key'] ?? '').trim()
  if (header !== '') return header
  const authorization = request.headers.authorization?.trim() ?? ''
  if (/^(Bearer)?$/i.test(authorization)) return null
  const bearer = /^Bearer +(\S+) *$/i.exec(authorization)?.[1]
  if (bearer === undefined)
    throw new ServiceError('unauthorized', 'The Authorization header must be "Bearer" and an API key')
  return bearer
}

/**
 * Against DNS rebinding: a page of a foreign site that had its name point here still sends that name. On a wildcard bind
 * the machine's own addresses and name are let in, since no foreign name can be one of them.
 */
function allowedHosts(config: Guarded): Set<string> {
  const hosts = ['localhost', '127.0.0.1', '[::1]', bracketed(config.host), ...config.allowedHosts]
  if (config.host === '0.0.0.0' || config.host === '::') {
    hosts.push(hostname())
    for (const addresses of Object.values(networkInterfaces()))
      for (const { address } of addresses ?? []) hosts.push(bracketed(address))
  }
  return new Set(hosts.map((host) => host.toLowerCase()))
}

const bracketed = (host: string) => (host.includes(':') && !host.startsWith('[') ? `[${host}]` : host)

function checkHost(request: FastifyRequest, hosts: Set<string>): void {
  const given = request.headers.host ?? ''
  if (hosts.has(given.replace(/:\d*$/, '').toLowerCase())) return
  throw new ServiceError(
    'forbidden',
    `The host name "${given.slice(0, 100)}" is not allowed here; add it to MLX_TRAINING_ALLOWED_HOSTS if it is yours`,
  )
}

function checkOrigin(request: FastifyRequest): void {
  const origin = request.headers.origin
  if (origin === undefined) return
  const host = URL.canParse(origin) ? new URL(origin).host : null
  if (host !== null && host === request.headers.host?.toLowerCase()) return
  throw new ServiceError('forbidden', 'Pages of another origin may not call this API')
}

function checkEncoding(request: FastifyRequest): void {
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity')
    throw new ServiceError(
      'unsupported_media_type',
      'Compressed bodies are not accepted; send it without Content-Encoding',
    )
}

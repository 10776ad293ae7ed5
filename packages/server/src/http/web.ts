/** The dashboard: built files from packages/web/dist, to browsers alone. What programs ask for stays the API's to answer. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import { ServiceError } from '@mlx-training/contract'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isUnknown, notFound } from './errors.ts'
import { WEB_PAGES } from './web-pages.ts'

const BUILT = fileURLToPath(new URL('../../../web/dist', import.meta.url))
const DOCUMENT = 'index.html'

/** Whoever asks may have them: what they show is asked for with a key. */
const OPEN = { config: { access: { auth: 'none', scope: 'read' } }, schema: { hide: true } } as const

export async function addWeb(app: FastifyInstance, folder = BUILT): Promise<void> {
  await app.register(async (web) => {
    await web.register(fastifyStatic, { root: folder, serve: false })
    for (const page of WEB_PAGES) web.get(page, OPEN, (request, reply) => sendPage(request, reply, folder))
    web.get<{ Params: { file: string } }>('/assets/:file', OPEN, (request, reply) =>
      // Their names carry a hash of their content.
      reply.sendFile(join('assets', request.params.file), { maxAge: '365d', immutable: true }),
    )
  })
}

/** All pages are one document; its script shows the one that the address names. */
function sendPage(request: FastifyRequest, reply: FastifyReply, folder: string): FastifyReply {
  reply.header('vary', 'Accept')
  if (!isVisit(request)) return notFound(request, reply)
  if (!existsSync(join(folder, DOCUMENT)))
    throw new ServiceError(
      'unavailable',
      'The dashboard has not been built: run "npm run setup" where the server is installed. The API works without it; GET /docs describes it',
    )
  return reply.header('cache-control', 'no-cache').sendFile(DOCUMENT, { cacheControl: false })
}

/** What nothing is at: to browsers the same document, which says so; to programs, and without a dashboard, the API's error. */
export function sendNotFound(folder = BUILT) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    if (!isUnknown(request)) return notFound(request, reply)
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    const page = isRead && isVisit(request) ? await readFile(join(folder, DOCUMENT)).catch(() => null) : null
    if (page === null) return notFound(request, reply)
    // Not as a file: an answer to a condition or a range would have another status.
    reply.code(404).headers({ vary: 'Accept', 'cache-control': 'no-store' })
    return reply.type('text/html; charset=utf-8').send(page)
  }
}

/** Of scripts, pictures and programs Accept has no text/html, or stands for everything. */
const isVisit = ({ headers }: FastifyRequest) => String(headers.accept ?? '').includes('text/html')

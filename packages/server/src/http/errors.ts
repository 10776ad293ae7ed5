import type { Socket } from 'node:net'
import { type ErrorBody, type ErrorCode, ROUTES, ServiceError } from '@mlx-training/contract'
import type { ConnectionError, FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { closest } from '../files/closest.ts'
import { isFacade, openAIError, openAIStatus } from '../openai/errors.ts'
import { whyAbsent } from '../openai/paths.ts'
import { newRequestId, requestId } from './request-id.ts'
import { validationError } from './validation.ts'
import { isPage } from './web-pages.ts'

export const BODY_LIMIT = 1024 * 1024

/** Fastify's own errors by code; anything else is a fault of ours. */
const FRAMEWORK: Record<string, [code: ErrorCode, detail: string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['payload_too_large', `The body is larger than ${BODY_LIMIT / 1024 / 1024} MiB`],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupported_media_type',
    'Bodies must be sent as Content-Type: application/json, and files as multipart/form-data',
  ],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['invalid_parameters', 'The body is not as long as its Content-Length says'],
  FST_ERR_BAD_URL: ['invalid_parameters', 'The URL is malformed: a % must be followed by two hexadecimal digits'],
  FST_ERR_MAX_PARAM_LENGTH: ['unprocessable', 'A part of the URL is too long; names have at most 100 characters'],
}

/** Any thrown thing as the error that the client sees. What isn't known becomes "internal", without a word of its inside. */
export function toServiceError(error: unknown): ServiceError {
  if (error instanceof ServiceError) return error
  const { code, validation, validationContext, statusCode } = (error ?? {}) as Partial<FastifyError>
  if (validation) return validationError(validation, validationContext ?? 'body')
  const known = code === undefined ? undefined : FRAMEWORK[code]
  if (known) return new ServiceError(known[0], known[1], { cause: error })
  if (code === 'ENOSPC')
    return new ServiceError('insufficient_storage', 'The disk is full; free some space', { cause: error })
  if (code === 'ECONNRESET' || (statusCode !== undefined && statusCode >= 400 && statusCode < 500))
    return new ServiceError('invalid_parameters', 'The request can not be met', { cause: error })
  return new ServiceError(
    'internal',
    'Something went wrong inside the server; its log has more under this request_id',
    { cause: error },
  )
}

export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const told = toServiceError(error)
  logError(told, request)
  reply.header('x-request-id', request.id)
  if (told.code === 'unauthorized') reply.header('www-authenticate', 'Bearer realm="mlx-distributed-training"')
  if (told.retryAfter !== undefined) reply.header('retry-after', Math.ceil(told.retryAfter))
  if (isFacade(request.url))
    return reply
      .code(openAIStatus(told))
      .type('application/json')
      .send(openAIError(told, request.url, request.is404))
  return reply
    .code(told.status)
    .type('application/json')
    .send(told.toBody(told.status >= 500 ? request.id : undefined))
}

/** What a client did wrong is told to the client alone; so are a provider's words, which may repeat a prompt. */
export function logError(told: ServiceError, { log }: Pick<FastifyRequest, 'log'>): void {
  if (told.code === 'internal') log.error({ err: told.cause ?? told }, told.message)
  else if (told.reason) log.info({ code: told.code, reason: told.reason }, 'a provider gave no answer')
  else if (told.status >= 500) log.info({ code: told.code, cause: causeOf(told) }, told.message)
}

/** What is missing or unreachable outside of this server needs no stack. */
const causeOf = ({ cause }: ServiceError) => (cause instanceof Error ? cause.message : undefined)

/** No method of the API and no page has this address. */
export function isUnknown({ url }: Pick<FastifyRequest, 'url'>): boolean {
  const path = url.split('?', 1)[0] ?? ''
  return methodsOf(path).length === 0 && whyAbsent(path) === undefined
}

export function notFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split('?', 1)[0] ?? ''
  const methods = methodsOf(path)
  if (methods.length > 0 && !methods.includes(request.method)) {
    const allowed = methods.join(', ')
    reply.header('allow', allowed)
    // A slip in a word of the path can look like a name of an experiment.
    const guess = Object.values(ROUTES).some((route) => route.path === path) ? null : nearestRoute(request.method, path)
    const hint = guess?.startsWith(`${request.method} `) ? `; did you mean ${guess}?` : ''
    const detail = `${path} answers ${allowed}, not ${request.method}${hint}`
    return sendError(new ServiceError('method_not_allowed', detail), request, reply)
  }
  const absent = whyAbsent(path)
  if (absent !== undefined) return sendError(new ServiceError('not_found', absent), request, reply)
  const hint = path === '/' ? '; GET /docs shows what there is' : hintOf(nearestRoute(request.method, path))
  return sendError(new ServiceError('not_found', `There is no ${request.method} ${short(path)}${hint}`), request, reply)
}

const hintOf = (guess: string | null) =>
  guess ? `; did you mean ${guess}?` : '; GET /openapi.json lists what there is'
const short = (path: string) => (path.length > 200 ? `${path.slice(0, 200)}…` : path)

function methodsOf(path: string): string[] {
  const methods = new Set<string>()
  for (const route of Object.values(ROUTES)) if (pattern(route.path).test(path)) methods.add(route.method)
  if (/^\/(docs|openapi\.json$)/.test(path) || isPage(path)) methods.add('GET')
  if (methods.has('GET')) methods.add('HEAD')
  return [...methods]
}

const pattern = (path: string) => new RegExp(`^${path.replaceAll(/:\w+/g, '[^/]+')}$`)

/** Compared with the routes after their parameters took the place of what was asked for. */
function nearestRoute(method: string, path: string): string | null {
  const asked = path.split('/')
  const filled = Object.values(ROUTES).map((route) => {
    const parts = route.path.split('/').map((part, i) => (part.startsWith(':') ? (asked[i] ?? part) : part))
    return `${route.method} ${parts.join('/')}`
  })
  return closest(`${method} ${path}`, filled)
}

/** HTTP that Node's parser refused: no request exists, so the answer goes straight onto the socket. */
export function clientError(this: FastifyInstance, error: ConnectionError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const told =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? new ServiceError('timeout', 'The request did not arrive in time')
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? new ServiceError('invalid_parameters', 'The headers are larger than 16 KiB')
        : new ServiceError('invalid_parameters', 'This is not valid HTTP')
  const id = newRequestId()
  this.log.debug({ request_id: id, code: error.code }, 'refused a malformed request')
  writeRaw(socket, told, id)
}

/** What Node would answer without a body, or hang up on. */
export function refuseOddities(app: FastifyInstance): void {
  app.server.on('checkExpectation', (request) => {
    const error = new ServiceError('invalid_parameters', `Expect: ${request.headers.expect} can't be met`)
    writeRaw(request.socket, error, requestId(request))
  })
  app.server.on('connect', (request, socket: Socket) => {
    const error = new ServiceError('method_not_allowed', 'This is no proxy: CONNECT is not supported')
    writeRaw(socket, error, requestId(request))
  })
}

const REASONS: Record<number, string> = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
}

function writeRaw(socket: Socket, error: ServiceError, id: string): void {
  const body: ErrorBody = error.toBody()
  const text = JSON.stringify(body)
  socket.end(
    `HTTP/1.1 ${error.status} ${REASONS[error.status] ?? ''}\r\nContent-Type: application/json\r\n` +
      `X-Request-Id: ${id}\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
  )
}

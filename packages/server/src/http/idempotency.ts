/** Idempotency-Key: a request that may be sent again without being carried out again. */
import { createHash } from 'node:crypto'
import { ServiceError } from '@mlx-training/contract'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Once } from '../jobs/port.ts'
import type { Store } from '../store/port.ts'

const HEADER = 'idempotency-key'
const MOST_CHARACTERS = 255
/** Of a request's body: what is deeper is no request of ours. */
const MOST_LEVELS = 20

interface Outcome<T> {
  answer: T
  replayed: boolean
}

/** `work` keeps its answer under what it is given, in the transaction that does what is answered; null without the header. */
export type Idempotent = <T extends object>(
  request: FastifyRequest,
  reply: FastifyReply,
  work: (once: Once | null) => Promise<T>,
) => Promise<T>

/**
 * Keys belong to the API key that they come with. The same request again waits for the first and gets its answer, errors
 * only while that goes on: what did not happen may be tried again. ServiceErrors: invalid_parameters for a key that can't
 * be one; unprocessable when it came with another request before.
 */
export function createIdempotency(store: Pick<Store, 'answer'>): Idempotent {
  const inFlight = new Map<string, { fingerprint: string; outcome: Promise<Outcome<object>> }>()

  async function carryOut<T extends object>(
    once: Once,
    work: (once: Once | null) => Promise<T>,
  ): Promise<Outcome<object>> {
    const kept = await store.answer(once.principal, once.key)
    if (!kept) return { answer: await work(once), replayed: false }
    if (kept.fingerprint !== once.fingerprint) throw anotherRequest()
    return { answer: kept.answer, replayed: true }
  }

  return async <T extends object>(
    request: FastifyRequest,
    reply: FastifyReply,
    work: (once: Once | null) => Promise<T>,
  ) => {
    const key = keyOf(request)
    if (key === null) return await work(null)
    const once = { principal: request.principal?.id ?? '', key, fingerprint: fingerprintOf(request) }
    const id = JSON.stringify([once.principal, key])
    const running = inFlight.get(id)
    if (running && running.fingerprint !== once.fingerprint) throw anotherRequest()
    const outcome = running?.outcome ?? carryOut(once, work)
    if (!running) inFlight.set(id, { fingerprint: once.fingerprint, outcome })
    try {
      const { answer, replayed } = await outcome
      if (replayed || running) reply.header('idempotent-replayed', 'true')
      return answer as T
    } finally {
      if (!running) inFlight.delete(id)
    }
  }
}

function keyOf(request: FastifyRequest): string | null {
  const given = request.headers[HEADER]
  if (given === undefined) return null
  const key = String(given).trim()
  const why =
    key === ''
      ? 'is empty'
      : key.length > MOST_CHARACTERS
        ? `is longer than ${MOST_CHARACTERS} characters`
        : // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
          /[\x00-\x1f\x7f]/.test(key)
          ? 'has a control character'
          : null
  if (why === null) return key
  const message = `${why}: send something unique to the request, such as a UUID, or leave it out`
  throw new ServiceError('invalid_parameters', `The header Idempotency-Key ${message}`, {
    errors: [{ field: 'Idempotency-Key', message }],
  })
}

const anotherRequest = () =>
  new ServiceError(
    'unprocessable',
    'This Idempotency-Key came with another request before: a new request needs a new key',
    { errors: [{ field: 'Idempotency-Key', message: 'came with another request before' }] },
  )

/** Of method, route, its parameters and the body with defaults filled in, whatever the order of its fields. */
function fingerprintOf({ method, routeOptions, params, body }: FastifyRequest): string {
  const text = JSON.stringify(sorted([method, routeOptions.url, params, body]))
  return createHash('sha256').update(text).digest('hex')
}

function sorted(value: unknown, level = 0): unknown {
  if (value === null || typeof value !== 'object') return value
  if (level > MOST_LEVELS) throw new ServiceError('unprocessable', `The body is nested more than ${MOST_LEVELS} deep`)
  if (Array.isArray(value)) return value.map((inner) => sorted(inner, level + 1))
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return entries.map(([key, inner]) => [key, sorted(inner, level + 1)])
}

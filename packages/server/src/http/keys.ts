import { type KeyInfo, ServiceError } from '@mlx-training/contract'
import type { FastifyBaseLogger } from 'fastify'
import { allowed, generateKey } from '../auth/keys.ts'
import type { ApiKey, Store } from '../store/port.ts'
import type { OpenRequests } from './open-requests.ts'
import type { Handlers } from './routes.ts'

interface Deps {
  store: Pick<Store, 'keys' | 'insertKey' | 'revokeKey'>
  open: OpenRequests
  log: FastifyBaseLogger
}

export function keys({ store, open, log }: Deps): Pick<Handlers, 'keysCreate' | 'keysList' | 'keysOwn' | 'keysDelete'> {
  return {
    keysCreate: async ({ body, request, reply }) => {
      const ends = endOf(body.expires_at ?? null, request.principal?.expiresAt ?? null)
      const { key, record } = generateKey(body.name, body.scopes, ends)
      await store.insertKey(record)
      log.info({ made: record.id, scopes: record.scopes, expires_at: record.expiresAt }, 'an API key was made')
      reply.header('cache-control', 'no-store')
      return { ...told(record), key }
    },
    keysList: async () => ({ keys: (await store.keys()).map(told) }),
    keysOwn: async ({ request }) => {
      const { principal } = request
      if (!principal) throw new ServiceError('unauthorized', 'An API key is needed')
      const { id, name, scopes, expiresAt } = principal
      return { id, name, scopes: [...scopes], may: allowed(scopes), expires_at: expiresAt }
    },
    keysDelete: async ({ params: { id }, reply }) => {
      const revoked = await store.revokeKey(id, new Date().toISOString())
      if (!revoked) throw new ServiceError('not_found', `There is no API key "${id}". GET /keys lists them`)
      open.cut(id, reply.raw)
      log.info({ revoked: id }, 'an API key was revoked')
      return { id, name: revoked.name, deleted: true }
    },
  }
}

const told = ({ id, name, scopes, createdAt, lastUsedAt, expiresAt }: ApiKey): KeyInfo => ({
  id,
  name,
  scopes,
  created_at: createdAt,
  last_used_at: lastUsedAt,
  expires_at: expiresAt,
})

/** `makers`: when the key ends that makes this one, which may not live on through it. */
function endOf(expiresAt: string | null, makers: string | null): Date | null {
  const last = makers === null ? null : new Date(makers)
  if (expiresAt === null) return last
  const end = new Date(expiresAt)
  if (end.getTime() <= Date.now()) throw wrongEnd(`must be in the future, not ${expiresAt}`)
  if (last && end > last) throw wrongEnd(`must be ${makers} at the latest, when the key ends that makes it`)
  return end
}

function wrongEnd(message: string): ServiceError {
  return new ServiceError('unprocessable', `expires_at ${message}`, { errors: [{ field: 'expires_at', message }] })
}

import { type Scope, ServiceError } from '@mlx-training/contract'
import type { ApiKey, Store } from '../store/port.ts'
import { Guesses } from './guesses.ts'
import { allows, hashKey, keyId, sameHash } from './keys.ts'

export interface Principal {
  /** Of the stored key; `admin` for the configured one. For logs. */
  id: string
  name: string
  scopes: readonly Scope[]
  expiresAt: string | null
}

export type KeyCheck = (presented: string, ip: string) => Promise<Principal>

/** Its last use is written down at most so often: a write a request would be more work than many requests are. */
const USE_MS = 60_000

/** How a presented key becomes a principal. ServiceError('unauthorized') says what is wrong with a key that exists, and
 *  nothing more than "not valid" of any other; 'rate_limited' after too many different wrong ones from an address. */
export function createKeyCheck(
  store: Pick<Store, 'key' | 'keyUsed'>,
  adminHash: string,
  now: () => number = Date.now,
): KeyCheck {
  const guesses = new Guesses(now)
  return async (presented, ip) => {
    const wait = guesses.blockedFor(ip)
    if (wait > 0)
      throw new ServiceError('rate_limited', `Too many different wrong API keys; try again in ${wait} s`, {
        retryAfter: wait,
      })
    const hash = hashKey(presented)
    if (sameHash(hash, adminHash)) return { id: 'admin', name: 'admin', scopes: ['admin'], expiresAt: null }
    const key = await storedKey(store, presented, hash)
    if (!key) {
      guesses.wrong(ip, hash)
      throw new ServiceError('unauthorized', 'The API key is not valid')
    }
    if (key.revokedAt !== null) throw new ServiceError('unauthorized', 'The API key has been revoked')
    if (key.expiresAt !== null && Date.parse(key.expiresAt) <= now())
      throw new ServiceError('unauthorized', `The API key expired at ${key.expiresAt}`)
    await noteUse(store, key, now())
    return { id: key.id, name: key.name, scopes: key.scopes, expiresAt: key.expiresAt }
  }
}

async function storedKey(store: Pick<Store, 'key'>, presented: string, hash: string): Promise<ApiKey | null> {
  const id = keyId(presented)
  const key = id === null ? null : await store.key(id)
  return key && sameHash(hash, key.hash) ? key : null
}

async function noteUse(store: Pick<Store, 'keyUsed'>, { id, lastUsedAt }: ApiKey, now: number): Promise<void> {
  if (lastUsedAt !== null && now - Date.parse(lastUsedAt) < USE_MS) return
  // With a full disk the key is as good as ever.
  await store.keyUsed(id, new Date(now).toISOString()).catch(() => {})
}

/** ServiceError('forbidden') that names the scope which is missing. */
export function demandScope(principal: Principal, needed: Scope): void {
  if (!allows(principal.scopes, needed))
    throw new ServiceError(
      'forbidden',
      `This needs an API key with the scope "${needed}"; the one sent has ${principal.scopes.join(', ') || 'none'}`,
    )
}

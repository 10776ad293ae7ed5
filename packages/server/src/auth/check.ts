import { type Scope, ServiceError } from '@mlx-training/contract'
import type { ApiKey, Store } from '../store/port.ts'
import { Guesses } from './guesses.ts'
import { allows, hashKey, keyId, sameHash } from './keys.ts'

export interface Principal {
  /** Of the stored key; `admin` for the configured one. For logs. */
  id: string
  scopes: readonly Scope[]
}

export type KeyCheck = (presented: string, ip: string) => Promise<Principal>

/** How a presented key becomes a principal. ServiceError('unauthorized') says what is wrong with a key that exists, and
 *  nothing more than "not valid" of any other; 'rate_limited' after too many different wrong ones from an address. */
export function createKeyCheck(store: Pick<Store, 'key'>, adminHash: string, now: () => number = Date.now): KeyCheck {
  const guesses = new Guesses(now)
  return async (presented, ip) => {
    const wait = guesses.blockedFor(ip)
    if (wait > 0)
      throw new ServiceError('rate_limited', `Too many different wrong API keys; try again in ${wait} s`, {
        retryAfter: wait,
      })
    const hash = hashKey(presented)
    if (sameHash(hash, adminHash)) return { id: 'admin', scopes: ['admin'] }
    const key = await storedKey(store, presented, hash)
    if (!key) {
      guesses.wrong(ip, hash)
      throw new ServiceError('unauthorized', 'The API key is not valid')
    }
    if (key.revokedAt !== null) throw new ServiceError('unauthorized', 'The API key has been revoked')
    if (key.expiresAt !== null && Date.parse(key.expiresAt) <= now())
      throw new ServiceError('unauthorized', `The API key expired at ${key.expiresAt}`)
    return { id: key.id, scopes: key.scopes }
  }
}

async function storedKey(store: Pick<Store, 'key'>, presented: string, hash: string): Promise<ApiKey | null> {
  const id = keyId(presented)
  const key = id === null ? null : await store.key(id)
  return key && sameHash(hash, key.hash) ? key : null
}

/** ServiceError('forbidden') that names the scope which is missing. */
export function demandScope(principal: Principal, needed: Scope): void {
  if (!allows(principal.scopes, needed))
    throw new ServiceError(
      'forbidden',
      `This needs an API key with the scope "${needed}"; the one sent has ${principal.scopes.join(', ') || 'none'}`,
    )
}

/** Who is signed in: the API key, kept for this tab alone, and the client that sends it. */
import { MlxTraining, type Scope } from '@mlx-training/sdk'
import { computed, signal } from '@preact/signals'
import { heard, missed } from './live/connection.ts'

const STORED = 'mlx-training.key'

export const apiKey = signal<string | null>(sessionStorage.getItem(STORED))

/** Why the sign-in page is shown again, when that was not the user's wish. */
export const signedOutBecause = signal<string | null>(null)

/** What the key may do; null: not known, so everything is offered and the server decides. */
export const scopes = signal<readonly Scope[] | null>(null)

export const client = computed(() => clientFor(apiKey.value ?? ''))

/** Whether something that needs a scope is to be offered. `admin` includes the others, all include `read`. */
export function can(scope: Scope): boolean {
  const known = scopes.value
  return known === null || scope === 'read' || known.includes('admin') || known.includes(scope)
}

/** Error of the SDK: the key is wrong, or the server can't be reached. */
export async function signIn(key: string): Promise<void> {
  const { may } = await clientFor(key, false).keys.own({ maxRetries: 0 })
  sessionStorage.setItem(STORED, key)
  scopes.value = may
  signedOutBecause.value = null
  apiKey.value = key
}

/** Of a key that this tab remembers from before the document was loaded again: asked once it is connected. */
export async function learnScopes(): Promise<void> {
  const key = apiKey.peek()
  if (key === null || scopes.peek() !== null) return
  const own = await client
    .peek()
    .keys.own()
    .catch(() => null)
  if (own && apiKey.peek() === key) scopes.value = own.may
}

export function signOut(because: string | null = null): void {
  // Whoever signs in next in this tab finds nothing of it; whose key has ended may go on with another.
  if (because === null) sessionStorage.clear()
  else sessionStorage.removeItem(STORED)
  signedOutBecause.value = because
  scopes.value = null
  apiKey.value = null
}

/** `watched`: an answer 401 to a key that worked before means that it was revoked or has expired. */
function clientFor(key: string, watched = true): MlxTraining {
  return new MlxTraining({
    baseURL: window.location.origin,
    apiKey: key,
    fetch: async (input, init) => {
      let response: Response
      try {
        response = await fetch(input, init)
      } catch (error) {
        if (!init?.signal?.aborted) missed()
        throw error
      }
      heard()
      if (watched && response.status === 401 && key === apiKey.peek())
        signOut('The server no longer accepts this key. It may have been revoked or have expired.')
      return response
    },
  })
}

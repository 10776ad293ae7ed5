import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { SCOPES, type Scope } from '@mlx-training/contract'
import type { ApiKey } from '../store/port.ts'

const KEY = /^mt_([0-9a-f]{12})_[0-9a-f]{64}$/

/** SHA-256, hex. Keys carry 256 random bits, so a slow password hash would add nothing but load. */
export const hashKey = (key: string): string => createHash('sha256').update(key).digest('hex')

/** Compares two SHA-256 hex digests in constant time. */
export const sameHash = (a: string, b: string): boolean => timingSafeEqual(Buffer.from(a, 'hex'), Buffer.from(b, 'hex'))

/** The id inside `mt_<id>_<secret>`; null when it isn't of that form. */
export const keyId = (key: string): string | null => KEY.exec(key)?.[1] ?? null

/** A new key: its text, to be shown once, and the record to store. */
export function generateKey(
  name: string,
  scopes: Scope[],
  expiresAt: Date | null = null,
): { key: string; record: ApiKey } {
  const id = randomBytes(6).toString('hex')
  const key = `mt_${id}_${randomBytes(32).toString('hex')}`
  const record = {
    id,
    name,
    hash: hashKey(key),
    scopes,
    createdAt: new Date().toISOString(),
    lastUsedAt: null,
    expiresAt: expiresAt?.toISOString() ?? null,
    revokedAt: null,
  }
  return { key, record }
}

/** These scopes with those that they include. */
export const allowed = (scopes: readonly Scope[]): Scope[] => SCOPES.filter((scope) => allows(scopes, scope))

/** `admin` includes every scope; `train` and `generate` include `read`. */
export function allows(scopes: readonly Scope[], needed: Scope): boolean {
  return scopes.includes('admin') || scopes.includes(needed) || (needed === 'read' && scopes.length > 0)
}

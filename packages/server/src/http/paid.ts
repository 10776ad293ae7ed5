import { ServiceError } from '@mlx-training/contract'
import type { FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import { type Asked, providerNamed } from '../providers/index.ts'
import { isLoopback } from './listen.ts'

/**
 * Answers of these providers are paid for with the operator's keys. A key of ours is optional to generate, so where
 * others than this machine can reach the server, one is needed for them all the same.
 */
export function demandPaid(
  { host }: Pick<Config, 'host'>,
  { principal }: Pick<FastifyRequest, 'principal'>,
  asked: readonly Asked[],
): void {
  if (principal !== null || isLoopback(host)) return
  const paid = asked.map(providerNamed).find((name) => name !== 'local_mlx' && name !== 'ollama')
  if (paid === undefined) return
  throw new ServiceError(
    'unauthorized',
    `${paid} is paid for by this server's operator, so it needs an API key here: send it as X-API-Key (or Authorization: ` +
      'Bearer), or use a local model',
  )
}

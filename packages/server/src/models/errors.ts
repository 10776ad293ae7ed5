import { ServiceError } from '@mlx-training/contract'
import { UnusableModel } from './folder.ts'
import { HubProblem } from './hub.ts'

/** A name as it is told back: quoted, and never a page long. */
export const show = (name: string): string => JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name)

/** What stopped a model from being used, for the client. Others' errors pass as they are. */
export function toServiceError(error: unknown, name: string): unknown {
  if (error instanceof UnusableModel) return new ServiceError('invalid_parameters', `${show(name)} ${error.message}`)
  if (error instanceof HubProblem)
    return new ServiceError(
      error.kind === 'missing' ? 'not_found' : error.kind === 'gated' ? 'forbidden' : 'unavailable',
      `${show(name)} can't be had: ${error.message}`,
      { cause: error, retryAfter: error.kind === 'unreachable' ? 30 : undefined },
    )
  return error
}

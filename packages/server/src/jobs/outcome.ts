/** How the end of a run, or the error that kept it from starting, moves its job. Pure. */
import { ServiceError } from '@mlx-training/contract'
import type { TrainingExit } from '../engine/port.ts'
import type { Input } from './machine.ts'

/** `asked`: whether the engine had been told to end, and `why` in case that was not its user's wish. */
export function ofExit(
  { kind, finished, error, reason, log, outOfMemory }: TrainingExit,
  asked: boolean,
  why: string,
): Input {
  if (kind === 'finished' && finished?.outcome === 'completed') return { type: 'completed', reason: finished.reason }
  if (kind === 'finished')
    return asked ? { type: 'yielded', reason: why } : { type: 'crashed', reason: 'The engine stopped unasked', log }
  if (kind !== 'error' || outOfMemory) return { type: 'crashed', reason, log, outOfMemory }
  switch (error?.kind) {
    case 'disk_full':
      return { type: 'blocked', reason: `${reason}. ${GOES_ON}`, log }
    case 'internal':
      return { type: 'crashed', reason, log }
    default:
      return { type: 'refused', reason, log }
  }
}

const GOES_ON = 'It goes on by itself when there is room again'

/** Of getting the model, or of starting the engine. */
export function ofError(error: unknown): Input {
  if (!(error instanceof ServiceError))
    return { type: 'crashed', reason: error instanceof Error ? error.message : String(error) }
  return error.code === 'insufficient_storage'
    ? { type: 'blocked', reason: `${error.message}. ${GOES_ON}` }
    : { type: 'refused', reason: error.message }
}

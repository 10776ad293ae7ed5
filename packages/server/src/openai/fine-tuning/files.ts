/** Data sets and results as OpenAI tells files. */
import { type DatasetSummary, type OpenAIFile, ServiceError } from '@mlx-training/contract'
import type { Job } from '../../jobs/port.ts'
import { fileId, resultsId, unixSeconds } from './ids.ts'

/** `errors`: of its report, where it is not valid. */
export const fileOf = (
  { id, bytes, created_at, name, valid }: DatasetSummary,
  errors: readonly string[],
): OpenAIFile => ({
  id: fileId(id),
  object: 'file',
  bytes,
  created_at: unixSeconds(created_at),
  filename: name,
  purpose: 'fine-tune',
  status: valid ? 'processed' : 'error',
  status_details: valid ? null : errors.slice(0, 3).join(' | '),
  expires_at: null,
})

/** Of a job that has ended. */
export const resultsFile = (job: Job, bytes: number): OpenAIFile => ({
  id: resultsId(job.id),
  object: 'file',
  bytes,
  created_at: unixSeconds(job.completedAt ?? job.createdAt),
  filename: resultsName(job),
  purpose: 'fine-tune-results',
  status: 'processed',
  status_details: null,
  expires_at: null,
})

export const resultsName = ({ name }: Job): string => `${name}.csv`

/** At the parameter that names it. */
export function noFile(id: string, field = 'id'): ServiceError {
  const message = `No such File object: ${JSON.stringify(id.slice(0, 100))}. GET /v1/files lists those that are there`
  return new ServiceError(field === 'id' ? 'not_found' : 'invalid_parameters', message, {
    errors: [{ field, message }],
  })
}

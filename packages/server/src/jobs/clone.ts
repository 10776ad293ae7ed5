/** A start made of an earlier one. */
import { stat } from 'node:fs/promises'
import { type CloneRequest, ServiceError } from '@mlx-training/contract'
import type { Job } from './port.ts'
import type { ResolveDeps, TrainingData } from './resolve.ts'

/** The request to start, not validated: that of `source` with what differs (RFC 7396), and a folder of its own. */
export function clonedRequest(source: Job, { changes, overwrite, ...clone }: CloneRequest): unknown {
  const { output_dir: _, overwrite: __, ...request } = source.request
  return { overwrite, ...(merged(request, changes) as object), ...(overwrite && { overwrite }), ...clone }
}

/** RFC 7396, with requests in mind. They are two levels deep; what a client nests deeper is none of their fields and is left to the validation. */
export function merged(target: unknown, patch: unknown, levels = 2): unknown {
  if (!isObject(patch) || levels === 0) return patch
  const result = new Map(Object.entries(isObject(target) ? target : {}))
  for (const [key, value] of Object.entries(patch))
    if (value === null) result.delete(key)
    else result.set(key, merged(result.get(key), value, levels - 1))
  return Object.fromEntries(result)
}

const isObject = (value: unknown): value is object =>
  value !== null && typeof value === 'object' && !Array.isArray(value)

/**
 * Data as `source` named it: the file is read anew, and where that is gone the copy that `source` was trained on is used.
 * Which of them, when they differ, is told as a warning.
 */
export function dataOf(source: Job, datasets: ResolveDeps['datasets']): ResolveDeps['datasets'] {
  const { dataset, validation } = source.plan
  const copies = new Map([[source.request.dataset.dataset_path, dataset]])
  const { validation_path } = source.request.dataset
  if (validation && validation_path !== undefined)
    copies.set(validation_path, { ...validation, format: dataset.format, warnings: [] })
  return {
    async snapshot(path, format, options) {
      const copy = copies.get(path)
      try {
        const data = await datasets.snapshot(path, format, options)
        if (!copy || copy.sha256 === data.sha256) return data
        return withWarning(
          data,
          `${path} has changed since "${source.name}" was started: this run takes it as it is now`,
        )
      } catch (error) {
        const gone = error instanceof ServiceError && error.code === 'not_found'
        if (!copy || !gone || (format !== undefined && format !== copy.format)) throw error
        const { warnings, ...data } = copy
        const { size } = await stat(copy.path).catch(() => Promise.reject(error))
        return withWarning(
          { ...data, report: { warnings, size_bytes: size } },
          `${path} is no longer there: this run takes the copy that "${source.name}" was trained on`,
        )
      }
    },
  }
}

const withWarning = (data: TrainingData, warning: string): TrainingData => ({
  ...data,
  report: { ...data.report, warnings: [warning, ...data.report.warnings] },
})

/** OpenAI's ids, made of ours and turned back: nothing has to be kept, and each names the same thing for ever. */

/** `job_<hex>` ↔ `ftjob-<hex>`. Of the job and not of its name: one that was deleted or replaced is not found. */
export const fineTuningId = (jobId: string): string => jobId.replace('job_', 'ftjob-')
export const jobIdOf = (id: string): string | null => backTo('job_', /^ftjob-(\w+)$/, id)

/** `ds_<20>` ↔ `file-<20>`; the data set's own id is taken as well. */
export const fileId = (datasetId: string): string => datasetId.replace('ds_', 'file-')
export const datasetIdOf = (id: string): string | null => backTo('ds_', /^(?:file-|ds_)([0-9a-z]{20})$/, id)

/** The losses of a job as a file. */
export const resultsId = (jobId: string): string => jobId.replace('job_', 'file-results-')
export const jobOfResults = (id: string): string | null => backTo('job_', /^file-results-(\w+)$/, id)

/** With the number that an event has within its job, or a checkpoint its step. */
export const eventId = (jobId: string, number: number): string => `${jobId.replace('job_', 'ftevent-')}-${number}`
export const checkpointId = (jobId: string, step: number): string => `${jobId.replace('job_', 'ftckpt_')}-${step}`
export const numberOf = (id: string): number => Number(/-(\d{1,15})$/.exec(id)?.[1] ?? Number.NaN)

function backTo(prefix: string, pattern: RegExp, id: string): string | null {
  const [, rest] = pattern.exec(id) ?? []
  return rest === undefined ? null : prefix + rest
}

/** Unix time in seconds. */
export const unixSeconds = (time: string): number => Math.floor(Date.parse(time) / 1000)

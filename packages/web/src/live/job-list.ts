/** What a change makes of the list of jobs. */
import type { JobSummary, JobsChange } from '@mlx-training/sdk'

/** Newest first, before and after. */
export function changed(jobs: JobSummary[], change: JobsChange): JobSummary[] {
  if (change.type === 'jobs') return change.training_jobs
  if (change.type === 'removed') return jobs.filter((job) => job.experiment_name !== change.experiment_name)
  const { job } = change
  if (jobs.some(({ job_id }) => job_id === job.job_id))
    return jobs.map((known) => (known.job_id === job.job_id ? job : known))
  // Replaced by another of the same name, too.
  return [job, ...jobs.filter((known) => known.experiment_name !== job.experiment_name)]
}

import type { JobSummary } from '@mlx-training/sdk'
import { JOB_ORDER } from './order.ts'

/** How many are in which state, in a sentence. */
export function Summary({ jobs }: { jobs: readonly JobSummary[] }) {
  const counts = JOB_ORDER.map((state) => [state, jobs.filter(({ status }) => status === state).length] as const)
  return <span>{counts.flatMap(([state, many]) => (many > 0 ? `${many} ${state}` : [])).join(' · ')}</span>
}

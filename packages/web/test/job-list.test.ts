import type { JobSummary } from '@mlx-training/sdk'
import { expect, test } from 'vitest'
import { changed } from '../src/live/job-list.ts'

const job = (name: string, id = name, percentage = 0) =>
  ({ experiment_name: name, job_id: id, percentage }) as JobSummary
const list = [job('b'), job('a')]

test('a change stays in its place, a new one comes first, also in place of another of its name', () => {
  expect(changed(list, { id: 't.1', type: 'job', job: job('a', 'a', 7) })).toEqual([job('b'), job('a', 'a', 7)])
  expect(changed(list, { id: 't.1', type: 'job', job: job('c') })).toEqual([job('c'), ...list])
  expect(changed(list, { id: 't.1', type: 'job', job: job('a', 'other') })).toEqual([job('a', 'other'), job('b')])
})

test('what is removed goes, a whole list replaces all', () => {
  expect(changed(list, { id: 't.1', type: 'removed', experiment_name: 'b' })).toEqual([job('a')])
  expect(changed(list, { id: 't.1', type: 'jobs', training_jobs: [job('z')] })).toEqual([job('z')])
})

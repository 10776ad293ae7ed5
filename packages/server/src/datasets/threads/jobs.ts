/** All that is done off the event loop: work on whole files, which takes and gives plain data. */
import { cleanFile } from '../library/clean.ts'
import { splitFile } from '../library/split-rows.ts'
import { takeIn } from '../library/take-in.ts'
import { check } from './check.ts'
import { pickRows } from './pick.ts'

export const JOBS = { check, takeIn, splitFile, cleanFile, pickRows }

export type Jobs = typeof JOBS
export type JobName = keyof Jobs
export type TaskOf<Name extends JobName> = Parameters<Jobs[Name]>[0]
export type ResultOf<Name extends JobName> = Awaited<ReturnType<Jobs[Name]>>

export const run = <Name extends JobName>(name: Name, task: TaskOf<Name>): Promise<ResultOf<Name>> =>
  (JOBS[name] as unknown as (task: TaskOf<Name>) => Promise<ResultOf<Name>>)(task)

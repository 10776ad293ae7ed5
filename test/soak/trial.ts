/** One trial: a job, a fault, and what must hold after it. */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { ListResponse } from '@mlx-training/contract'
import { markerOf, STRIKES, type Struck } from './faults.ts'
import type { Plan } from './plan.ts'
import { HANG_SECONDS, type Result, type World } from './world.ts'

export interface Outcome {
  plan: Plan
  hit: boolean
  attempts: number
  seconds: number
  /** What did not hold; empty: all did. */
  problems: string[]
}

/** A fault strikes once, and the server may have died of another. */
const SENT_AT_MOST = 5

export async function runTrial(world: World, plan: Plan): Promise<Outcome> {
  const undisturbed = await world.baseline(plan.variant)
  const began = performance.now()
  const name = `trial-${plan.seed}`
  const problems: string[] = []
  let struck: Struck = { hit: false }
  let attempts = 0
  try {
    await world.withEnvironment(environmentOf(world, plan))
    for (let sent = 1; !(await world.submit(name, plan.variant)) && !(await isThere(world, name)); sent++)
      if (sent === SENT_AT_MOST) throw new Error(`it was not accepted, ${sent} times`)
    struck = await STRIKES[plan.fault](world, plan, name)
    for (const job of [name, ...(struck.others ?? [])]) {
      const { status, reason, attempt } = await world.ends(job)
      if (job === name) attempts = attempt
      if (status !== 'completed') problems.push(`${job} is ${status}: ${reason}`)
    }
    problems.push(...(await problemsOf(world, name, struck, undisturbed)))
  } catch (error) {
    problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  return { plan, hit: struck.hit, attempts, seconds: (performance.now() - began) / 1000, problems }
}

function environmentOf(world: World, { fault, failpoint, seed }: Plan): Record<string, string> {
  const once = `~${markerOf(world, seed)}`
  const armed = failpoint !== null ? [`${failpoint}${once}`] : []
  // An engine whose server has died then lives on, as on systems that have nothing like PR_SET_PDEATHSIG.
  if (fault === 'orphan' || fault === 'stale engine') armed.push('process.deathsig=skip')
  // The next server leaves it alone, once.
  if (fault === 'stale engine') armed.push(`orphans@1=skip~${markerOf(world, seed)}`)
  const hang: Record<string, string> =
    fault === 'silent hang' ? { MLX_TRAINING_HANG_SECONDS: String(HANG_SECONDS) } : {}
  return armed.length > 0 ? { ...hang, MLX_TRAINING_FAILPOINTS: armed.join(',') } : {}
}

/** A job whose acceptance nobody heard of may be there. */
async function isThere(world: World, name: string): Promise<boolean> {
  if ((await world.request('GET', `/train/${name}/status`)).status !== 200) return false
  world.accepted.push(name)
  return true
}

async function problemsOf(world: World, name: string, struck: Struck, undisturbed: Result): Promise<string[]> {
  const problems: string[] = []
  const check = (holds: boolean, problem: () => string) => {
    if (!holds) problems.push(problem())
  }

  const events = await world.events(name)
  check(
    events.every(({ id }, index) => id === index + 1),
    () => `the events' ids have gaps: ${events.map(({ id }) => id)}`,
  )
  const ends = events.filter(({ type }) => type === 'end').length
  check(ends === 1 && events.at(-1)?.type === 'end', () => `it has ended ${ends} times`)
  const told = JSON.stringify(events)
  check(!struck.hit || !struck.told || struck.told.test(told), () => `nothing is told like ${struck.told}`)

  const result = await world.result(name)
  if (struck.rounded) check(isClose(result, undisturbed), () => 'losses differ by more than rounding')
  else {
    check(result.sha256 === undisturbed.sha256, () => `the result has other bits: ${result.sha256}`)
    check(
      isDeepStrictEqual(result.losses, undisturbed.losses),
      () => `the losses differ: ${difference(result, undisturbed)}`,
    )
  }
  const folder = join(world.disk, 'outputs', name)
  const left = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => /\.tmp$|\.lease$/.test(path))
  check(left.length === 0, () => `left in the output folder: ${left}`)

  const { body } = await world.request<ListResponse>('GET', '/train')
  const there = new Map(body.training_jobs.map(({ experiment_name, status }) => [experiment_name, status]))
  const lost = world.accepted.filter((accepted) => there.get(accepted) !== 'completed')
  check(lost.length === 0, () => `accepted, but not completed: ${lost.map((job) => `${job} ${there.get(job)}`)}`)
  const integrity = world.integrity()
  check(integrity === 'ok', () => `integrity_check: ${integrity}`)

  // The job's last event comes before its process has been reaped.
  let running = await world.trainingPids()
  for (let wait = 0; running.length > 0 && wait < 100; wait++) {
    await sleep(50)
    running = await world.trainingPids()
  }
  check(running.length === 0, () => `still running: ${running}`)
  return problems
}

function difference(result: Result, undisturbed: Result): string {
  const steps = [...new Set([...result.losses.keys(), ...undisturbed.losses.keys()])]
  const differing = steps.filter((step) => result.losses.get(step) !== undisturbed.losses.get(step))
  return differing.map((step) => `${step}: ${result.losses.get(step)} / ${undisturbed.losses.get(step)}`).join(', ')
}

function isClose(result: Result, undisturbed: Result): boolean {
  return [...undisturbed.losses].every(([step, loss]) => Math.abs((result.losses.get(step) ?? Infinity) - loss) < 1e-3)
}

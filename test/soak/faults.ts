/** What each fault does. */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { enginesOf } from '../../packages/server/src/engine/orphans.ts'
import type { Fault, Moment, Plan } from './plan.ts'
import { LEASE_SECONDS, STEPS, type World } from './world.ts'

export interface Struck {
  /** Whether the fault met what it was meant for; a run may be over before. */
  hit: boolean
  /** What the job's history must tell then. */
  told?: RegExp
  /** Jobs that were accepted besides. */
  others?: string[]
  /** Results equal to rounding: memory ran out, so that steps were computed in smaller pieces. */
  rounded?: boolean
}

/** Does its worst to the job, which has been accepted. Returns when what is left is to wait for the job's end. */
export type Strike = (world: World, plan: Plan, name: string) => Promise<Struck>

const PAST_LEASE = 1000 * (LEASE_SECONDS + 2)

/** Returns whether the run is still going on then. */
async function waitFor(world: World, name: string, { step, milliseconds }: Moment): Promise<boolean> {
  while (step !== null) {
    const { status, progress } = await world.status(name)
    if (progress.current_step >= step || isEnd(status)) break
    await sleep(10)
  }
  await sleep(milliseconds)
  return !isEnd((await world.status(name)).status)
}

const isEnd = (status: string) => ['completed', 'failed', 'stopped'].includes(status)

/** The engine that trains then, or as soon as there is one; null: the run is over. */
async function engineAt(world: World, name: string, moment: Moment): Promise<number | null> {
  while (await waitFor(world, name, moment)) {
    const [pid] = await world.trainingPids()
    if (pid !== undefined) return pid
  }
  return null
}

const first = (moments: Moment[]): Moment => moments[0] ?? { step: null, milliseconds: 0 }

function signal(pid: number | null, name: NodeJS.Signals): boolean {
  try {
    if (pid !== null) process.kill(pid, name)
    return pid !== null
  } catch {
    return false // has just ended
  }
}

async function killEngine(world: World, { moments }: Plan, name: string): Promise<Struck> {
  let hit = false
  for (const moment of moments) hit = signal(await engineAt(world, name, moment), 'SIGKILL') || hit
  return { hit, told: /killed from outside by SIGKILL|ran out of memory/ }
}

async function killServer(world: World, { moments }: Plan, name: string): Promise<Struck> {
  let hit = false
  for (const moment of moments) {
    hit = (await waitFor(world, name, moment)) || hit
    await world.killServer()
    await world.server()
  }
  return { hit }
}

async function killBoth(world: World, { moments, amount }: Plan, name: string): Promise<Struck> {
  let hit = false
  for (const moment of moments) {
    const pid = await engineAt(world, name, moment)
    hit ||= pid !== null
    const blows = [() => signal(pid, 'SIGKILL'), () => world.killServer()]
    for (const blow of amount < 0.5 ? blows : blows.reverse()) await blow()
    await world.server()
  }
  return { hit }
}

async function killWhileAccepting(world: World, { amount, seed }: Plan): Promise<Struck> {
  const others = [0, 1].map((number) => `beside-${seed}-${number}`)
  const sent = others.map((other) => world.submit(other, 'accumulated', { max_steps: 2 }))
  await sleep(amount * 30)
  await world.killServer()
  const accepted = await Promise.all(sent)
  await world.server()
  return { hit: true, others: others.filter((_, index) => accepted[index]) }
}

async function killWhilePausing(world: World, { moments, amount }: Plan, name: string): Promise<Struck> {
  const pid = await engineAt(world, name, first(moments))
  const { status } = await world.request('POST', `/train/${name}/pause`)
  await sleep(amount * 200)
  if (amount < 0.5) await world.killServer()
  else signal(pid, 'SIGKILL')
  while (!['paused', 'completed'].includes((await world.status(name)).status)) await sleep(20)
  await world.request('POST', `/train/${name}/resume`)
  return { hit: status === 200 }
}

/** Fires by itself: the trial set it before the job was sent. */
async function waitForFailpoint(world: World, { seed }: Plan, name: string): Promise<Struck> {
  await world.ends(name)
  return { hit: existsSync(markerOf(world, seed)) }
}

export const markerOf = (world: World, seed: number): string => join(world.folder, `fired-${seed}`)

async function terminate(world: World, { moments }: Plan, name: string): Promise<Struck> {
  const hit = await waitFor(world, name, first(moments))
  const before = (await world.status(name)).progress.current_step
  const took = await world.terminate()
  if (took > 25_000) throw new Error(`SIGTERM took ${took} ms`)
  const { attempt } = await world.ends(name)
  const resumed = (await world.events(name)).findLast(({ type }) => type === 'prepared')?.data.resumed_from_step
  if (attempt > 1 && Number(resumed) < before - 1)
    throw new Error(`step ${before} was done before SIGTERM, went on from ${resumed}`)
  return { hit }
}

async function stopEngine(world: World, { moments }: Plan, name: string): Promise<Struck> {
  const pid = await engineAt(world, name, first(moments))
  const hit = signal(pid, 'SIGSTOP')
  await gone(world, pid)
  return { hit, told: /gave no sign of life for 5 s|did not start within/ }
}

async function stopServer(world: World, { moments }: Plan, name: string): Promise<Struck> {
  const hit = await waitFor(world, name, first(moments))
  const pid = world.serverPid
  signal(pid, 'SIGSTOP')
  await sleep(PAST_LEASE)
  signal(pid, 'SIGCONT')
  const { attempt } = await world.ends(name)
  if (attempt !== 1) throw new Error(`the server was stopped, and its job lost its lease: attempt ${attempt}`)
  return { hit }
}

/** A stopped engine, its server killed, whose death does not reach it: the next server finds and ends it. */
async function orphan(world: World, { moments }: Plan, name: string): Promise<Struck> {
  const pid = await engineAt(world, name, first(moments))
  const hit = signal(pid, 'SIGSTOP')
  await world.killServer()
  await world.server()
  if (pid !== null && (await world.trainingPids()).includes(pid)) throw new Error(`the orphan ${pid} was not ended`)
  return { hit }
}

/** The same, but nobody ends it: it wakes while the next attempt is at work. */
async function staleEngine(world: World, { moments, amount }: Plan, name: string): Promise<Struck> {
  const pid = await engineAt(world, name, first(moments))
  const hit = signal(pid, 'SIGSTOP')
  await world.killServer()
  const { attempt } = await world.status(name)
  const wanted = Math.floor(amount * STEPS)
  for (;;) {
    const now = await world.status(name)
    if (now.status === 'completed' || (now.attempt >= attempt && now.progress.current_step >= wanted)) break
    await sleep(20)
  }
  signal(pid, 'SIGCONT')
  await gone(world, pid)
  return { hit }
}

async function gone(world: World, pid: number | null): Promise<void> {
  while (pid !== null && (await enginesOf(world.home)).some((engine) => engine.pid === pid)) await sleep(50)
}

async function fillDisk(world: World, { moments, amount }: Plan, name: string): Promise<Struck> {
  if (!world.isSmallDisk) return { hit: false }
  await waitFor(world, name, first(moments))
  const path = join(world.disk, 'filler')
  const file = openSync(path, 'w')
  try {
    const { bavail, bsize } = statfsSync(world.disk)
    const block = Buffer.alloc(1 << 20)
    for (let left = bavail * bsize - Math.max(0, amount - 0.5) * 600_000; left > 0; left -= block.length)
      writeSync(file, block, 0, Math.min(block.length, left))
  } catch {
    // Full to the last byte.
  } finally {
    closeSync(file)
  }
  const full = performance.now()
  let hit = false
  while (performance.now() - full < 3000 && !hit) {
    await sleep(50)
    hit = (await world.status(name)).status === 'paused' || world.said().includes('the job waits')
  }
  rmSync(path)
  return { hit }
}

async function limitMemory(world: World, { moments, amount }: Plan, name: string): Promise<Struck> {
  if (process.platform !== 'linux') return { hit: false }
  const pid = await engineAt(world, name, first(moments))
  try {
    const size = Number(/^VmSize:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
    execFileSync('prlimit', ['--pid', String(pid), `--as=${Math.round((size + amount * 4000) * 1024)}`])
  } catch {
    return { hit: false } // ended, or there is no prlimit
  }
  const { attempt, warnings } = await world.ends(name)
  const rounded = warnings.some((warning) => warning.includes('less in memory'))
  // Python can't start a thread for want of memory, among other reasons, and says no more.
  return { hit: attempt > 1, told: /memory|start new thread/i, rounded }
}

export const STRIKES: Record<Fault, Strike> = {
  'kill engine': killEngine,
  'kill server': killServer,
  'kill both': killBoth,
  'kill server while jobs are accepted': killWhileAccepting,
  'kill engine while it pauses': killWhilePausing,
  'failpoint in the engine': waitForFailpoint,
  'failpoint in the database': waitForFailpoint,
  'terminate server': terminate,
  'stop engine past its lease': stopEngine,
  'stop server past the lease': stopServer,
  orphan,
  'stale engine': staleEngine,
  'disk full for a checkpoint': async (...trial) => ({ ...(await waitForFailpoint(...trial)), told: /disk.*full/i }),
  'disk full for the database': waitForFailpoint,
  'disk full': fillDisk,
  'out of memory': limitMemory,
  'silent hang': async (...trial) => ({ ...(await waitForFailpoint(...trial)), told: /no progress for/ }),
}

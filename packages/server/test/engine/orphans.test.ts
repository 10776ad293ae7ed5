/** Engine processes that outlive the server that started them, as on macOS, and what must never be ended with them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { endOrphans, enginesOf } from '../../src/engine/orphans.ts'
import { ownerArgument, ownerIn } from '../../src/engine/owner.ts'
import { fromPs, listProcesses } from '../../src/engine/processes.ts'
import { isAlive, until } from './fake.ts'

let home: string
let other: string
const children: ChildProcess[] = []
const pids: number[] = []
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'orphans-'))
  other = mkdtempSync(join(tmpdir(), 'orphans-'))
})
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  for (const pid of pids.splice(0)) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  for (const folder of [home, other]) rmSync(folder, { recursive: true })
})

// What a process does is told by its command line alone.
const SLEEP = 'setTimeout(() => {}, 600_000)'

/** A "server" that starts such processes as groups of their own, says their pids, and can be killed. */
async function server(...commandLines: string[][]): Promise<{ kill(): Promise<void>; pids: number[] }> {
  const program = `
    const { spawn } = require('node:child_process')
    for (const args of ${JSON.stringify(commandLines)}) {
      const filled = args.map((arg) => arg.replace('SERVER', process.pid))
      const child = spawn(process.execPath, ['-e', ${JSON.stringify(SLEEP)}, '--', ...filled], { detached: true, stdio: 'ignore' })
      console.log(child.pid)
    }
    ${SLEEP}`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  const started: number[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    started.push(Number(line))
    if (started.length === commandLines.length) break
  }
  pids.push(...started)
  return {
    pids: started,
    async kill() {
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    },
  }
}

const engine = (folder: string) => ['-m', 'mlx_engine.train', ownerArgument(folder).replace(/\d+$/, 'SERVER')]
const silent = { warn: () => {} }

it('ends the stopped engine of a killed server, and nothing else', async () => {
  const dead = await server(engine(home), engine(other), ['-m', 'mlx_engine.train'], ['grep', ...engine(home).slice(2)])
  const living = await server(engine(home))
  const [stopped = 0, ofOther = 0, byHand = 0, search = 0] = dead.pids
  const [child = 0] = living.pids
  process.kill(stopped, 'SIGSTOP')
  expect((await enginesOf(home)).map(({ pid, orphaned }) => [pid, orphaned]).sort()).toEqual(
    [
      [stopped, false],
      [child, false],
    ].sort(),
  )
  await dead.kill()
  await until(async () => (await enginesOf(home)).some(({ orphaned }) => orphaned))
  const warned: unknown[] = []
  await endOrphans(home, { warn: (fields: object) => void warned.push(fields) })
  expect(isAlive(stopped)).toBe(false)
  expect([ofOther, byHand, search, child].map(isAlive)).toEqual([true, true, true, true])
  expect(warned).toMatchObject([{ pid: stopped }])
  await endOrphans(other, silent)
  expect([ofOther, byHand, search, child].map(isAlive)).toEqual([false, true, true, true])
})

it('takes the others of its group along: its ranks', async () => {
  const program = `
    const { spawn } = require('node:child_process')
    console.log(spawn(process.execPath, ['-e', ${JSON.stringify(SLEEP)}], { stdio: 'ignore' }).pid)
    ${SLEEP}`
  // Its "server" never was its parent.
  const leader = spawn(
    process.execPath,
    ['-e', program, '--', ...engine(home).map((arg) => arg.replace('SERVER', '1'))],
    {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  children.push(leader)
  const [line] = (await once(createInterface({ input: leader.stdout }), 'line')) as [string]
  await endOrphans(home, silent)
  await until(() => !isAlive(Number(line)))
})

it('knows its own by the token in its home folder, which stays', () => {
  const argument = ownerArgument(home)
  expect(ownerArgument(home)).toBe(argument)
  const line = ['python', '-m', 'mlx_engine.serve', argument]
  expect(ownerIn(line, home)).toEqual({ server: process.pid })
  expect(ownerIn(line, other)).toBeNull()
  expect(ownerIn(['python', '-m', 'mlx_engine.serve', `${argument}0 x`], home)).toBeNull()
  expect(ownerIn(['python', '-c', argument], home)).toBeNull()
})

it('sees a process alike through /proc and through ps', async ({ skip }) => {
  const [seen, through] = await Promise.all([listProcesses(), fromPs().catch(() => null)])
  if (through === null) return skip('there is no ps here')
  for (const list of [seen, through]) {
    const found = list.find(({ pid }) => pid === process.pid)
    expect(found).toMatchObject({ pid: process.pid, parent: process.ppid })
    expect(found?.started).toBeTruthy()
    expect(found?.commandLine.join(' ')).toContain(process.argv0.slice(-4))
  }
})

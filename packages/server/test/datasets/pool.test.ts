import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Pool, type PoolOptions, Silence } from '../../src/datasets/threads/pool.ts'

// A thread that answers with its number, or does what ends one.
const PROGRAM = `
  import { parentPort, threadId, workerData } from 'node:worker_threads'
  setInterval(() => Atomics.add(workerData.beat, 0, 1), workerData.beatMs)
  parentPort.on('message', (task) => {
    if (task === 'fail') throw new Error('a fault of the thread')
    if (task === 'exit') process.exit(3)
    if (task === 'loop') for (;;);
    if (task === 'sleep') return
    parentPort.postMessage(threadId)
    if (task === 'fail later') setTimeout(() => { throw new Error('nobody asked') }, 10)
  })`
const poolOf = (options: PoolOptions) =>
  new Pool<string, number>(new URL(`data:text/javascript,${encodeURIComponent(PROGRAM)}`), options)

it('a thread stays for the next task', async () => {
  const pool = poolOf({})
  const first = await pool.run('answer')
  for (let i = 0; i < 5; i++) expect(await pool.run('answer')).toBe(first)
})

it('one that fails is told of and replaced, between tasks as well', async () => {
  const pool = poolOf({})
  const first = await pool.run('answer')
  await expect(pool.run('fail')).rejects.toThrow('a fault of the thread')
  const second = await pool.run('fail later')
  expect(second).not.toBe(first)
  await expect.poll(() => pool.run('answer').catch(() => second), { timeout: 10_000 }).not.toBe(second)
  const third = await pool.run('answer')
  await expect(pool.run('exit')).rejects.toThrow(/ended too early/)
  expect(await pool.run('answer')).not.toBe(third)
})

it('one that hangs is ended', async () => {
  await expect(poolOf({ silentMs: 500 }).run('loop')).rejects.toThrow(Silence)
})

it('more tasks than cores wait for their turn, and a caller that leaves makes room', async () => {
  const pool = poolOf({})
  const leave = new AbortController()
  const stuck = Array.from({ length: 40 }, () => pool.run('sleep', leave.signal))
  const last = pool.run('answer')
  setTimeout(() => leave.abort(new Error('left')), 50)
  const outcomes = await Promise.allSettled(stuck)
  expect(outcomes.every((outcome) => outcome.status === 'rejected' && outcome.reason.message === 'left')).toBe(true)
  await expect(last).resolves.toEqual(expect.any(Number))
})

it('without work a thread ends after a while', async () => {
  const pool = poolOf({ idleMs: 20 })
  const first = await pool.run('answer')
  await sleep(200)
  expect(await pool.run('answer')).not.toBe(first)
})

import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JobEvent } from '@mlx-training/contract'
import pino from 'pino'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { MAX_FRUITLESS_OUT_OF_MEMORY } from '../../src/jobs/machine.ts'
import type { Job } from '../../src/jobs/port.ts'
import { isAlive, until } from '../engine/fake.ts'
import { type House, openHouse } from './house.ts'

let house: House
let older: House | undefined
afterEach(async () => {
  await older?.close()
  older = undefined
  await house.close()
  house.fake.remove()
})

const open = async (train: string, options?: Parameters<typeof openHouse>[1]) => {
  house = await openHouse({ train }, { backoff: 1, ...options })
  await house.runner.start()
}
const states = (history: JobEvent[]) => history.flatMap(({ type, data }) => (type === 'state' ? [data.state] : []))
const messages = (history: JobEvent[]) =>
  history.flatMap(({ type, data }) => (type === 'warning' ? [data.message] : []))

/** Greets and says which attempt this is; `output` is its folder. */
const BEGIN = `
hello()
given = command()
output, attempt = given["output_dir"], given["attempt"]
warning(f"attempt {attempt} resume {given['resume']}")
`
const COMPLETE = `${BEGIN}
for again in range(3):
    send("stage", stage="loading_model", done=0, total=0)
    time.sleep(0.3)
prepared()
for number in range(1, 5): step(number)
send("eval", step=4, loss=0.75, trained_tokens=40, perplexity=2.1, token_accuracy=0.5, best=True)
checkpoint(4, output)
finished()
`
/** Trains until told otherwise, and ends as it is told. */
const OBEDIENT = `${BEGIN}
prepared()
step(1)
checkpoint(1, output)
if attempt > 1: finished()
finished({"stop": "stopped", "suspend": "suspended"}[command()["type"]], 1)
`

describe('a job', () => {
  it('runs to its end, with every frame in its history and projected', async () => {
    await open(COMPLETE)
    const submitted = await house.submit()
    const followed: JobEvent[] = []
    for await (const batch of house.events.follow(submitted.id, 0, new AbortController().signal))
      followed.push(...batch)

    expect(followed.map((event) => event.id)).toEqual(followed.map((_, index) => index + 1))
    expect(followed.map((event) => event.type)).toEqual([
      ...['state', 'state', 'warning', 'stage', 'prepared', 'state', 'step', 'step', 'step', 'step'],
      ...['eval', 'checkpoint', 'state', 'end'],
    ])
    expect(states(followed)).toEqual(['queued', 'preparing', 'running', 'completed'])
    expect(followed[6]?.data).toMatchObject({ step: 1, loss: 2, processed_samples: 2 })
    expect(followed[11]?.data).toEqual({
      step: 4,
      loss: 0.5,
      validation_loss: null,
      best: false,
      model: 'fine-tuned/a@step-4',
    })
    expect(followed[13]?.data).toEqual({ state: 'completed', reason: null })

    const job = (await house.jobs.get('a')) as Job
    expect(job).toMatchObject({ state: 'completed', attempt: 1, fruitlessAttempts: 0, reason: null, lastEventId: 14 })
    expect(job.progress).toMatchObject({ stage: null, loss: 0.5, evaluation: { loss: 0.75 }, step: { step: 4 } })
    expect(job.progress.prepared).toMatchObject({ total_steps: 4, trainable_params: 16 })
    expect(job.progress.checkpoints).toMatchObject([{ step: 4, loss: 0.5 }])
    expect(job.startedAt && job.completedAt && job.startedAt <= job.completedAt).toBe(true)
    expect(await house.history(job)).toEqual(followed)
  })

  it('stops while it runs', async () => {
    await open(OBEDIENT)
    await house.submit()
    await house.reaches('a', 'running')
    expect((await house.jobs.stop('a')).state).toBe('stopping')
    expect((await house.jobs.stop('a')).state).toBe('stopping')
    const job = await house.reaches('a', 'stopped')
    expect(states(await house.history(job))).toEqual(['queued', 'preparing', 'running', 'stopping', 'stopped'])
    expect(job).toMatchObject({ reason: 'Stopped on request', intent: 'run' })
    await expect(house.jobs.stop('a')).rejects.toMatchObject({ code: 'conflict' })
  })

  it('pauses, and goes on from its checkpoint when resumed', async () => {
    await open(OBEDIENT)
    await house.submit()
    await house.reaches('a', 'running')
    expect(await house.jobs.pause('a')).toMatchObject({ state: 'running', intent: 'pause' })
    expect(await house.reaches('a', 'paused')).toMatchObject({ intent: 'run', fruitlessAttempts: 0 })
    expect(await house.jobs.counts()).toEqual({ active: 0, queued: 0 })
    await house.jobs.resume('a')
    const job = await house.reaches('a', 'completed')
    expect(job.attempt).toBe(2)
    expect(messages(await house.history(job))).toEqual(['attempt 1 resume False', 'attempt 2 resume True'])
  })

  it('is put back after a crash, and goes on', async () => {
    await open(`${BEGIN}
prepared()
checkpoint(attempt, output)
if attempt < 3: os.kill(os.getpid(), signal.SIGKILL)
finished()`)
    await house.submit()
    const job = await house.reaches('a', 'completed')
    expect(job).toMatchObject({ attempt: 3, reason: null })
    const history = await house.history(job)
    expect(states(history).join()).toBe(
      'queued,preparing,running,queued,preparing,running,queued,preparing,running,completed',
    )
    expect(
      history.find(({ type, data }) => type === 'state' && data.state === 'queued' && data.reason)?.data.reason,
    ).toMatch(/SIGKILL/)
    expect(job.progress.warnings.filter((text) => text.startsWith('Attempt'))).toEqual([
      expect.stringMatching(/^Attempt 1 ended: The engine was killed .*; from step 1$/),
      expect.stringMatching(/^Attempt 2 ended: The engine was killed .*; from step 2$/),
    ])
  })

  it('that runs out of memory goes on with less in memory at a time', async () => {
    await open(`${BEGIN}
warning(f"level {given['memory_level']}")
prepared()
if attempt == 1: os.kill(os.getpid(), signal.SIGSEGV)
if attempt == 2: error("out_of_memory", "Not enough memory"); sys.exit(1)
if attempt == 3: print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr); os.abort()
if attempt == 4: raise SystemError("something else")
finished()`)
    await house.submit()
    const job = await house.reaches('a', 'completed')
    const levels = messages(await house.history(job)).filter((text) => String(text).startsWith('level'))
    expect(levels).toEqual(['level 0', 'level 1', 'level 2', 'level 3', 'level 3'])
    expect(job.progress.memoryLevel).toBe(3)
  })

  it('that crashes waits a little, and lets others go first', async () => {
    await open(`${BEGIN}
prepared()
if given["experiment_name"] == "a" and attempt == 1: sys.exit(1)
finished()`)
    await house.runner.close()
    const a = await house.submit('a')
    const b = await house.submit('b')
    older = house
    house = await openHouse(older.fake, { backoff: 500 })
    await house.runner.start()
    const [first, second] = [await house.reaches('a', 'completed'), await house.reaches('b', 'completed')]
    expect(first.attempt).toBe(2)
    expect(a.id).not.toBe(b.id)
    expect(String(second.completedAt) <= String(first.completedAt)).toBe(true)
  })

  it.each([
    ['crashes without a checkpoint', 'raise SystemError("boom")', 5, /^Given up after 5 attempts .*SystemError: boom$/],
    [
      'runs out of memory',
      'error("out_of_memory", "Not enough memory"); sys.exit(1)',
      MAX_FRUITLESS_OUT_OF_MEMORY,
      /Not enough memory.*batch_size/,
    ],
    ['has a bad data set', 'error("invalid_dataset", "row 3"); sys.exit(1)', 1, /^row 3$/],
    [
      'has lost its lease',
      'error("lease_lost", "another one writes there"); sys.exit(1)',
      1,
      /^another one writes there$/,
    ],
    ['has no finite loss', 'error("non_finite", "loss is nan"); sys.exit(1)', 1, /^loss is nan$/],
  ])('that %s has failed, with the reason and the log', async (_, fault, attempts, reason) => {
    await open(`${BEGIN}print("about to fail", file=sys.stderr); ${fault}`)
    await house.submit()
    const job = await house.reaches('a', 'failed')
    expect(job.attempt).toBe(attempts)
    expect(job.reason).toMatch(reason)
    const history = await house.history(job)
    const logs = history.filter(({ type }) => type === 'log')
    expect(logs).toHaveLength(attempts)
    expect(logs.at(-1)?.data.lines).toContain('about to fail')
    expect(history.at(-1)).toMatchObject({ type: 'end', data: { state: 'failed' } })
  })

  it('waits, paused, when the engine finds the disk full', async () => {
    await open(`${BEGIN}
if attempt == 1: error("disk_full", "The disk is full"); sys.exit(1)
finished()`)
    await house.submit()
    expect((await house.reaches('a', 'paused')).reason).toBe(
      'The disk is full. It goes on by itself when there is room again',
    )
    await house.jobs.resume('a')
    await house.reaches('a', 'completed')
  })

  it('goes on by itself when the disk has room again, unless it was paused meanwhile', async () => {
    let room = false
    let looks = 0
    const hasRoom = async () => {
      looks++
      return room
    }
    await open(
      `${BEGIN}
if attempt == 1: error("disk_full", "The disk is full"); sys.exit(1)
finished()`,
      { hasRoom, roomPoll: 20, maxConcurrentJobs: 2 },
    )
    await house.submit('a')
    await house.submit('b')
    await house.reaches('a', 'paused')
    await house.reaches('b', 'paused')
    await until(() => looks > 5)
    expect((await house.jobs.pause('b')).reason).toBe('Paused on request')
    room = true
    const job = await house.reaches('a', 'completed')
    const reasons = (await house.history(job)).flatMap(({ type, data }) => (type === 'state' ? [data.reason] : []))
    expect(reasons).toContain('There is room on the disk again')
    expect(await house.jobs.get('b')).toMatchObject({ state: 'paused', attempt: 1 })
  })

  it('that finds no room again and again is sent on less and less often', async () => {
    const train = `hello()\ncommand()\nerror("disk_full", "Quota exceeded"); sys.exit(1)`
    await open(train, { roomPoll: 20 })
    const began = performance.now()
    await house.submit()
    await until(async () => (await house.jobs.get('a'))?.attempt === 5)
    // 2, 4, 8 looks after the one before.
    expect(performance.now() - began).toBeGreaterThan((2 + 4 + 8) * 20)
  })

  it('has a lease of its output folder while an engine is at work for it, a new one each time', async () => {
    await open(`${BEGIN}
prepared()
lease = open(os.path.join(output, ".lease")).read()
assert lease == given["lease"]
send("warning", code="lease", message=lease)
if attempt < 3: sys.exit(1)
finished()`)
    const { id } = await house.submit()
    const job = await house.reaches('a', 'completed')
    const leases = job.progress.warnings.filter((text) => text.startsWith(`${id} attempt `))
    expect(leases).toHaveLength(3)
    expect(existsSync(join(job.plan.outputDir, '.lease'))).toBe(false)
  })

  it('goes on though the clock jumps, by days and in both directions', async () => {
    await open(`${BEGIN}
prepared()
for number in range(1, 41): step(number); time.sleep(0.02)
finished(step=40)`)
    vi.useFakeTimers({ toFake: ['Date'] })
    try {
      await house.submit()
      await house.reaches('a', 'running')
      for (const days of [40, -80, 4000]) {
        vi.setSystemTime(Date.now() + days * 86_400_000)
        await sleep(100)
      }
      const job = await house.reaches('a', 'completed')
      expect(job).toMatchObject({ attempt: 1, progress: { warnings: ['attempt 1 resume False'] } })
    } finally {
      vi.useRealTimers()
    }
  })

  it('waits with its frames while the database has no room, and loses none', async () => {
    const said: string[] = []
    const log = pino({}, { write: (line: string) => said.push(line) })
    const train = `${BEGIN}
prepared()
command()
for number in range(1, 301): step(number)
finished("stopped", 300)`
    await open(train, { log })
    await house.submit()
    await house.reaches('a', 'running')
    await house.jobs.stop('a')
    house.database.pragma(`max_page_count = ${house.database.pragma('page_count')}`)
    await until(() =>
      said.some((text) => text.includes('The disk that holds the database is full: free some space; the job waits')),
    )
    house.database.pragma('max_page_count = 1000000')
    const job = await house.reaches('a', 'stopped')
    const steps = (await house.history(job)).flatMap(({ type, data }) => (type === 'step' ? [data.step] : []))
    expect(steps).toEqual(Array.from({ length: 300 }, (_, index) => index + 1))
  })

  it('of a model that must be imported first tells its progress, and can be stopped meanwhile', async () => {
    const gguf = `
hello()
given = command()
for done in range(2001): send("stage", stage="importing", done=done, total=2000)
time.sleep(60)`
    house = await openHouse({ train: COMPLETE, gguf })
    await house.runner.start()
    const path = join(house.fake.folder, 'm.gguf')
    writeFileSync(path, 'GGUF')
    const submitted = await house.submit('a', { kind: 'gguf', name: 'm.gguf', path })
    await until(async () => (await house.history(submitted)).some(({ data }) => data.done === 2000))
    expect((await house.jobs.stop('a')).state).toBe('stopping')
    const job = await house.reaches('a', 'stopped')
    const stages = (await house.history(job)).filter(({ type }) => type === 'stage')
    expect(stages.at(-1)?.data).toEqual({ stage: 'importing', done: 2000, total: 2000 })
    expect(stages.length).toBeLessThan(50)
  })

  it('of a model that can not be had has failed', async () => {
    await open(COMPLETE)
    await house.submit('a', { kind: 'folder', name: 'gone', path: join(house.fake.folder, 'gone') })
    const job = await house.reaches('a', 'failed')
    expect(job).toMatchObject({ attempt: 1, reason: expect.stringContaining('gone') })
  })

  it('belongs to its newest attempt: a stale run writes nothing and is ended', async () => {
    await open(OBEDIENT)
    const { id } = await house.submit()
    await house.reaches('a', 'running')
    await until(async () => (await house.jobs.get('a'))?.progress.checkpoints.length === 1)
    const pid = house.pids[0] ?? 0
    expect(isAlive(pid)).toBe(true)
    const moved = await house.store.update(id, null, () => ({ change: { attempt: 9 }, events: [] }))
    await house.jobs.pause('a')
    await until(() => !isAlive(pid))
    await house.runner.close()
    expect(await house.jobs.get('a')).toMatchObject({ state: 'running', attempt: 9, progress: moved?.progress })
  })
})

describe('the queue', () => {
  it('runs no more jobs at a time than allowed, oldest first', async () => {
    const WAITING = `${BEGIN}
prepared()
while not os.path.exists(os.path.join(os.environ["PYTHONPATH"], "go")): send("alive", memory_mb=1.0); time.sleep(0.02)
finished()`
    await open(WAITING, { maxConcurrentJobs: 2 })
    for (const name of ['a', 'b', 'c', 'd']) await house.submit(name)
    await Promise.all([house.reaches('a', 'running'), house.reaches('b', 'running')])
    expect(await house.jobs.counts()).toEqual({ active: 2, queued: 2 })
    const { id } = (await house.jobs.get('d')) as Job
    expect((await house.jobs.places()).get(id)).toEqual({ position: 1, start: null })
    expect((await house.jobs.places()).size).toBe(2)
    await house.jobs.pause('c')
    writeFileSync(join(house.fake.config.engineSource, 'go'), '')
    await house.reaches('d', 'completed')
    expect((await house.jobs.get('c'))?.state).toBe('paused')
    await house.jobs.resume('c')
    await house.reaches('c', 'completed')
    expect((await house.jobs.list()).map(({ name }) => name)).toEqual(['d', 'c', 'b', 'a'])
  })

  it('waits while there is no engine', async () => {
    house = await openHouse({ train: COMPLETE, probe: 'import nothing_like_it' }, { poll: 20 })
    await house.runner.start()
    await house.submit()
    await house.engine.ready()
    await sleep(100)
    expect(await house.jobs.get('a')).toMatchObject({ state: 'queued', attempt: 0 })
    expect((await house.jobs.stop('a')).state).toBe('stopped')
  })

  it('replaces an ended experiment when told to, and runs it afresh', async () => {
    await open(COMPLETE)
    const first = await house.submit()
    await house.reaches('a', 'completed')
    await expect(house.submit()).rejects.toMatchObject({ code: 'conflict' })
    const second = await house.submit('a', undefined, true)
    expect(second.id).not.toBe(first.id)
    const job = await house.reaches('a', 'completed')
    expect(messages(await house.history(job))[0]).toBe('attempt 1 resume False')
  })

  it('answers commands to what is not there', async () => {
    await open(COMPLETE)
    await expect(house.jobs.stop('nobody')).rejects.toMatchObject({ code: 'not_found' })
    expect(await house.jobs.get('nobody')).toBeNull()
  })
})

describe('the end of a server', () => {
  it('suspends its jobs, and the next server goes on with them', async () => {
    await open(OBEDIENT)
    await house.submit()
    await until(async () => (await house.jobs.get('a'))?.progress.checkpoints.length === 1)
    await house.close()
    older = house
    house = await openHouse(older.fake)
    expect(await house.jobs.get('a')).toMatchObject({
      state: 'queued',
      attempt: 1,
      reason: 'The server was shut down; the job goes on when it is back',
    })
    await house.runner.start()
    expect(await house.reaches('a', 'completed')).toMatchObject({ attempt: 2 })
  })

  it('kills an engine that does not end, and puts its job back', async () => {
    await open(
      `${BEGIN}
prepared()
while True: send("alive", memory_mb=1.0); time.sleep(0.05)`,
      { grace: 200 },
    )
    await house.submit()
    await house.reaches('a', 'running')
    const pid = house.pids[0] ?? 0
    await house.runner.close()
    expect(isAlive(pid)).toBe(false)
    expect(await house.jobs.get('a')).toMatchObject({ state: 'queued', fruitlessAttempts: 1 })
  })

  it('without a goodbye: what it left at work is put back or stopped', async () => {
    house = await openHouse({ train: COMPLETE })
    for (const [name, state] of [
      ['a', 'preparing'],
      ['b', 'running'],
      ['c', 'stopping'],
      ['d', 'running'],
    ] as const) {
      const { id } = await house.submit(name)
      await house.store.update(id, 0, () => ({
        change: {
          state,
          attempt: 1,
          fruitlessAttempts: name === 'd' ? 5 : 1,
          intent: state === 'stopping' ? 'stop' : 'run',
        },
        events: [],
      }))
    }
    await house.runner.start()
    const [d, c, b, a] = await house.jobs.list()
    expect([a, b].map((job) => job?.reason)).toEqual(['The server was restarted', 'The server was restarted'])
    expect(c).toMatchObject({
      state: 'stopped',
      reason: 'Stopped, but not as it should: The server was restarted; no checkpoint had been saved',
    })
    expect(d).toMatchObject({
      state: 'failed',
      reason: expect.stringMatching(/^Given up after 5 .*The server was restarted$/),
    })
    expect(await house.reaches('a', 'completed')).toMatchObject({ attempt: 2 })
    expect(await house.reaches('b', 'completed')).toMatchObject({ attempt: 2 })
  })
})

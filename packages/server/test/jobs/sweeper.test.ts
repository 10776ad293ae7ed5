import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import { createSweeper, type Sweeper } from '../../src/jobs/sweeper.ts'
import type { Store } from '../../src/store/port.ts'
import { openSqliteStore } from '../../src/store/sqlite.ts'
import { newJob } from './jobs.ts'
import { writeRun } from './output-files.ts'

let home: string
let store: Store
let sweeper: Sweeper
const open = async () => {
  store = await openSqliteStore(join(home, 'server.db'))
  sweeper = createSweeper({ store, home, log: pino({ level: 'silent' }) })
}
beforeEach(async () => {
  home = realpathSync(mkdtempSync(join(tmpdir(), 'sweeper-')))
  await open()
})
afterEach(async () => {
  await store.close()
  rmSync(home, { recursive: true, force: true })
})

const snapshot = (name: string) => join(home, 'snapshots', `${name.padEnd(64, '0')}.jsonl`)
const outputs = (name: string) => join(home, 'outputs', name)

/** An ended job with all that it may have: results, log, data, the weights that it began with. */
async function ended(name: string, data = name, outputDir = outputs(name)): Promise<Job> {
  const job = newJob(name, outputDir)
  const initial = { path: join(home, 'initial', data), name: 'fine-tuned/x' }
  const dataset = { ...job.plan.dataset, path: snapshot(data) }
  mkdirSync(initial.path, { recursive: true })
  mkdirSync(join(home, 'snapshots'), { recursive: true })
  writeFileSync(snapshot(data), '')
  const made = await store.insertJob({ ...job, plan: { ...job.plan, dataset, initial } }, [])
  await store.update(made.id, null, () => ({
    change: { state: 'completed', completedAt: '2026-01-01T00:00:00Z' },
    events: [],
  }))
  mkdirSync(join(home, 'runs', made.id), { recursive: true })
  await writeRun(outputDir, made, [4])
  return made
}
const remove = (name: string) => sweeper.sweep(() => store.removeJob(name, () => {}))

describe('a sweep', () => {
  it('removes what a removed job has left, and the data that no other uses', async () => {
    const [a, b] = [await ended('a', 'shared'), await ended('b', 'shared')]
    expect([...(await remove('a'))]).toEqual([[a.id, { kept: [], folder: 'removed' }]])
    expect(existsSync(outputs('a'))).toBe(false)
    expect(readdirSync(join(home, 'runs'))).toEqual([b.id])
    expect(existsSync(snapshot('shared'))).toBe(true)
    expect(existsSync(join(home, 'initial', 'shared'))).toBe(true)
    await remove('b')
    expect(readdirSync(join(home, 'snapshots'))).toEqual([])
    expect(readdirSync(join(home, 'initial'))).toEqual([])
    expect(await store.removals()).toEqual([])
  })

  it('goes on where a killed server left off', async () => {
    const { id } = await ended('a')
    await store.removeJob('a', () => {})
    await store.close()
    await open()
    mkdirSync(join(home, 'snapshots'), { recursive: true })
    writeFileSync(join(home, 'snapshots', '.half.tmp'), '')
    await sweeper.start()
    expect([existsSync(outputs('a')), existsSync(join(home, 'runs', id)), existsSync(snapshot('a'))]).toEqual([
      false,
      false,
      false,
    ])
    expect(readdirSync(join(home, 'snapshots'))).toEqual([])
    expect(await store.removals()).toEqual([])
  })

  it('tries again later what could not be removed, and does the rest', async () => {
    const broken = join(home, 'a-file')
    const { id } = await ended('a', 'a', join(broken, 'a'))
    await ended('b')
    rmSync(broken, { recursive: true })
    writeFileSync(broken, 'a file where a folder was')
    const swept = await remove('a')
    expect(swept.get(id)).toBeInstanceOf(Error)
    expect(await store.removals()).toHaveLength(1)
    await remove('b')
    expect(existsSync(outputs('b'))).toBe(false)
    rmSync(broken)
    expect((await sweeper.sweep()).get(id)).toEqual({ kept: [], folder: 'missing' })
    expect(await store.removals()).toEqual([])
  })

  it('leaves data alone that somebody is about to use', async () => {
    await ended('a', 'data')
    let started = () => {}
    const starting = new Promise<void>((resolve) => {
      started = resolve
    })
    const work = sweeper.holding(async () => {
      expect(existsSync(snapshot('data'))).toBe(true)
      await starting
      const job = newJob('b')
      await store.insertJob(
        { ...job, plan: { ...job.plan, dataset: { ...job.plan.dataset, path: snapshot('data') } } },
        [],
      )
    })
    await remove('a')
    expect(existsSync(snapshot('data'))).toBe(true)
    started()
    await work
    await sweeper.sweep()
    expect(existsSync(snapshot('data'))).toBe(true)
    expect(existsSync(join(home, 'initial', 'data'))).toBe(false)
  })

  it('removes what was copied for a start that failed, at once', async () => {
    const failed = sweeper.holding(async () => {
      mkdirSync(join(home, 'snapshots'), { recursive: true })
      writeFileSync(snapshot('copied'), '')
      throw new Error('refused')
    })
    await expect(failed).rejects.toThrow('refused')
    await sweeper.sweep()
    expect(existsSync(snapshot('copied'))).toBe(false)
  })

  it('waits for its turn, and says of each removal what became of it to whoever asked', async () => {
    const names = ['a', 'b', 'c', 'd']
    const jobs = await Promise.all(names.map((name) => ended(name)))
    const swept = await Promise.all(names.map((name) => remove(name)))
    expect(swept.map((all, index) => all.get(jobs[index]?.id ?? ''))).toEqual(
      names.map(() => ({ kept: [], folder: 'removed' })),
    )
  })
})

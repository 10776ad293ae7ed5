/** The server without HTTP: real store, events, engine supervisor and models over an engine that the test scripts. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { JobEvent, JobState } from '@mlx-training/contract'
import pino from 'pino'
import { loadConfig } from '../../src/config.ts'
import { createEngine } from '../../src/engine/index.ts'
import type { Engine } from '../../src/engine/port.ts'
import { createEventLog } from '../../src/events/log.ts'
import { createNotifier } from '../../src/events/notifier.ts'
import type { EventLog } from '../../src/events/port.ts'
import { createClientPaths } from '../../src/files/client-paths.ts'
import type { Job, JobService, ModelRef } from '../../src/jobs/port.ts'
import { createRunner, type Runner, type RunnerDependencies } from '../../src/jobs/runner.ts'
import { createJobService } from '../../src/jobs/service.ts'
import { createSweeper } from '../../src/jobs/sweeper.ts'
import { createModels } from '../../src/models/index.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import type { Store } from '../../src/store/port.ts'
import { createStore } from '../../src/store/queries.ts'
import { openSqliteStore, sqliteDriver } from '../../src/store/sqlite.ts'
import { type FakeEngine, fakeEngine } from '../engine/fake.ts'
import { newJob } from './jobs.ts'

export interface House {
  fake: FakeEngine
  store: Store
  /** The store's own connection. */
  database: Database
  jobs: JobService
  events: EventLog
  engine: Engine
  runner: Runner
  /** Of every training process so far. */
  pids: number[]
  submit(name?: string, model?: ModelRef, overwrite?: boolean): Promise<Job>
  /** Follows the job's events until it is in one of the states. */
  reaches(name: string, ...states: JobState[]): Promise<Job>
  history(job: Job): Promise<JobEvent[]>
  close(): Promise<void>
}

/** `fake`: that of an earlier house, whose home folder this one takes over; its maker removes it. */
export async function openHouse(
  engineModules: Parameters<typeof fakeEngine>[0] | FakeEngine,
  options: Partial<RunnerDependencies> = {},
): Promise<House> {
  const fake = 'remove' in engineModules ? engineModules : fakeEngine(engineModules)
  const path = join(fake.folder, 'server.db')
  await (await openSqliteStore(path)).close()
  const database = openDatabase(path)
  const store = createStore(sqliteDriver(database))
  const notifier = createNotifier()
  const log = pino({ level: 'silent' })
  const config = { ...loadConfig({}, fake.folder), ...fake.config }
  const engine = createEngine(config, log)
  const models = createModels({ config, engine, paths: createClientPaths(fake.folder) })
  const sweeper = createSweeper({ store, home: fake.folder, log })
  const { maxConcurrentJobs = 1 } = options
  const jobs = createJobService({ store, notifier, sweeper, maxConcurrentJobs })
  const events = createEventLog(store, notifier)
  const pids: number[] = []
  const watched: Engine = {
    ...engine,
    train(command, onFrame) {
      const process = engine.train(command, onFrame)
      pids.push(process.pid)
      return process
    },
  }
  const tokenCache = join(fake.folder, 'cache')
  const runner = createRunner({
    store,
    engine: watched,
    models,
    notifier,
    log,
    tokenCache,
    sweeper,
    maxConcurrentJobs,
    hasRoom: async () => true,
    ...options,
  })
  const folder = tinyFolder(join(fake.folder, 'tiny'))
  return {
    fake,
    store,
    database,
    jobs,
    events,
    engine,
    runner,
    pids,
    submit(name = 'a', model = { kind: 'folder', name: 'tiny', path: folder }, overwrite = false) {
      const job = newJob(name, join(fake.folder, 'outputs', name), overwrite)
      return jobs.submit({ ...job, plan: { ...job.plan, model } })
    },
    async reaches(name, ...states) {
      const { id } = (await jobs.get(name)) as Job
      const woken = new AbortController()
      try {
        for await (const _ of events.follow(id, 0, woken.signal)) {
          const job = (await store.jobById(id)) as Job
          if (states.includes(job.state)) return job
        }
      } finally {
        woken.abort()
      }
      throw new Error(`${name} ended as ${JSON.stringify(await store.jobById(id))}`)
    },
    history: (job) => store.eventsAfter(job.id, 0, 10_000),
    async close() {
      await runner.close()
      await engine.close()
      await store.close()
    },
  }
}

/** Enough of a model for the server, which only looks whether it is whole. */
function tinyFolder(path: string): string {
  mkdirSync(path, { recursive: true })
  writeFileSync(join(path, 'config.json'), '{"model_type": "llama"}')
  writeFileSync(join(path, 'tokenizer.json'), '{}')
  writeFileSync(join(path, 'model.safetensors'), Buffer.from([2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d]))
  return path
}

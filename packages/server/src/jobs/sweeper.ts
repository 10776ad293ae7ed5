/** createSweeper: removes the files of experiments that are gone, and data that no experiment uses any more. */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BaseLogger } from 'pino'
import { failpoint } from '../files/failpoints.ts'
import type { Removal, Store } from '../store/port.ts'
import { type Cleared, clearFolder } from './output-files.ts'
import type { Job } from './port.ts'

export interface SweeperDeps {
  store: Pick<Store, 'removals' | 'removed' | 'jobs'>
  home: string
  log: Pick<BaseLogger, 'info' | 'warn'>
}

/** What became of an experiment's files; an Error when they could not all be removed, which the next sweep tries again. */
export type Swept = Cleared | Error

export interface Sweeper {
  /** At start, before anything else uses the home folder: also what a killed server left unfinished. */
  start(): Promise<void>
  /** All that is to be removed now, and by `first`; by job id. Sweeps wait for each other. */
  sweep(first?: () => Promise<unknown>): Promise<ReadonlyMap<string, Swept>>
  /** Data that `work` finds or makes stays while it goes on, though no experiment uses it yet. When it fails they go. */
  holding<T>(work: () => Promise<T>): Promise<T>
}

/** Copies of data sets, by their hash, and the weights that runs begin with. */
export const snapshotsFolder = (home: string): string => join(home, 'snapshots')
export const initialFolder = (home: string): string => join(home, 'initial')

export function createSweeper({ store, home, log }: SweeperDeps): Sweeper {
  let last: Promise<unknown> = Promise.resolve()
  let holders = 0
  let removingData: Promise<void> | null = null
  let isDataDue = false

  function sweep(first?: () => Promise<unknown>): Promise<ReadonlyMap<string, Swept>> {
    const next = last.then(first).then(removeAll)
    last = next.catch(() => {})
    return next
  }

  async function removeAll(): Promise<ReadonlyMap<string, Swept>> {
    const swept = new Map<string, Swept>()
    for (const removal of await store.removals()) {
      swept.set(removal.jobId, await remove(removal))
      isDataDue = true
    }
    await removeUnusedData()
    return swept
  }

  /** The folders first, then the note of them: a kill in between does it again. */
  async function remove({ jobId, name, outputDir }: Removal): Promise<Swept> {
    try {
      failpoint('removal.noted')
      const cleared = await clearFolder(outputDir, jobId)
      if (/^job_\w+$/.test(jobId)) await rm(join(home, 'runs', jobId), { recursive: true, force: true })
      failpoint('removal.done')
      await store.removed(jobId)
      log.info({ job: name, job_id: jobId, folder: cleared.folder }, `files of ${name} removed`)
      return cleared
    } catch (error) {
      log.warn(
        { err: error, job: name, job_id: jobId, folder: outputDir },
        `files of ${name} could not be removed; tried again later`,
      )
      return error instanceof Error ? error : new Error(String(error))
    }
  }

  async function removeUnusedData(): Promise<void> {
    if (!isDataDue || holders > 0) return
    isDataDue = false
    removingData = removeData().catch((error) => log.warn({ err: error }, 'unused data could not be removed'))
    await removingData
    removingData = null
  }

  async function removeData(): Promise<void> {
    const used = new Set((await store.jobs()).flatMap(dataOf))
    for (const folder of [snapshotsFolder(home), initialFolder(home)])
      for (const path of await pathsIn(folder)) if (!used.has(path)) await rm(path, { recursive: true, force: true })
  }

  return {
    sweep,
    async start() {
      isDataDue = true
      await sweep()
    },
    async holding(work) {
      while (removingData) await removingData
      holders++
      try {
        return await work()
      } catch (error) {
        // It may have copied gigabytes that nobody will use.
        isDataDue = true
        throw error
      } finally {
        holders--
        if (holders === 0 && isDataDue)
          sweep().catch((error) => log.warn({ err: error }, 'unused data was not looked for'))
      }
    },
  }
}

/** Whatever its state: an ended job may be resumed or cloned. */
const dataOf = ({ plan }: Job): string[] =>
  [plan.dataset.path, plan.validation?.path, plan.initial?.path].filter((path) => path !== undefined)

async function pathsIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return names.map((name) => join(folder, name))
}

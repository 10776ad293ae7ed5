/** A real training process that really runs out of memory: its address space is limited, below what the job takes. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import { type House, openHouse } from './house.ts'
import { newJob } from './jobs.ts'
import { engineSource, makeTinyModel, python, writeRows } from './real.ts'

let home: string
let house: House

/** Python through a shell that sets the limit in the file `limit`, in KiB, if there is one. */
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'memory-'))
  makeTinyModel(join(home, 'model'), { num_hidden_layers: 8, intermediate_size: 4096 })
  const limited = join(home, 'python')
  writeFileSync(limited, `#!/bin/sh\nulimit -v "$(cat '${home}/limit' || echo unlimited)" && exec '${python}' "$@"\n`)
  chmodSync(limited, 0o755)
  house = await openHouse(
    {
      folder: home,
      config: { python: limited, engineSource, home },
      remove: () => rmSync(home, { recursive: true, force: true }),
    },
    { backoff: 1 },
  )
  await house.runner.start()
}, 60_000)
afterAll(async () => {
  await house.close()
  house.fake.remove()
})

/** Three rows, one a step: the second is long, and takes most of the memory. */
async function submit(name: string): Promise<Job> {
  const job = newJob(name, join(home, 'outputs', name))
  const rows: [string, string][] = [8, 1000, 8].map((words, row) => [`Say ${row}`, ' so'.repeat(words)])
  const dataset = { ...job.request.dataset, batch_size: 1, max_seq_length: 2048, shuffle: false }
  return await house.jobs.submit({
    name,
    request: { ...job.request, dataset, save_steps: 1 },
    plan: {
      ...job.plan,
      model: { kind: 'folder', name: 'tiny', path: join(home, 'model') },
      dataset: writeRows(join(home, 'rows.jsonl'), rows),
    },
  })
}

/** The most address space that the job's processes had, in KiB, as far as it was seen. */
async function peak(job: Job): Promise<number> {
  let most = 0
  for await (const _ of house.events.follow(job.id, 0, new AbortController().signal)) {
    for (const pid of house.pids) most = Math.max(most, spaceOf(pid))
  }
  return most
}

function spaceOf(pid: number): number {
  try {
    return Number(/^VmPeak:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

const losses = async (job: Job) =>
  new Map((await house.history(job)).flatMap(({ type, data }) => (type === 'step' ? [[data.step, data.loss]] : [])))

describe('a job whose memory runs out', () => {
  it.runIf(process.platform === 'linux')(
    'goes on from its last checkpoint with less at a time, to the same result',
    async () => {
      const plenty = await submit('plenty')
      const needed = await peak(plenty)
      expect((await house.reaches('plenty', 'completed')).attempt).toBe(1)

      // By how much a level makes it smaller is the engine's to know: a limit that is tighter than the job, and no more.
      let job: Job | undefined
      for (const share of [0.9, 0.85, 0.8, 0.75]) {
        writeFileSync(join(home, 'limit'), String(Math.round(needed * share)))
        await submit(`tight-${share}`)
        job = await house.reaches(`tight-${share}`, 'completed', 'failed')
        if (job.attempt > 1) break
      }
      if (!job) throw new Error('unreachable')
      expect(job).toMatchObject({ state: 'completed', reason: null })
      expect(job.attempt).toBeGreaterThan(1)
      expect(job.progress.memoryLevel).toBe(job.attempt - 1)
      expect(job.progress.prepared?.resumed_from_step).toBe(1)
      expect(job.progress.warnings[0]).toMatch(
        /^Attempt 1 ended: .*memory.* Going on with less in memory at a time \(level 1\); from step 1$/,
      )
      const [expected, found] = [await losses(plenty), await losses(job)]
      expect([...found.keys()]).toEqual([...expected.keys()])
      for (const [step, loss] of expected) expect(found.get(step)).toBeCloseTo(Number(loss), 4)
    },
    240_000,
  )
})

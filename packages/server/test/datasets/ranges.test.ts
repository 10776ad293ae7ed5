import { closeSync, openSync, writeFileSync } from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { scan as scanOfThisThread } from '../../dist/datasets/text/scan.js'
// As built: threads load JavaScript only.
import { check as checkBuilt } from '../../dist/datasets/threads/check.js'
import { offThread } from '../../dist/datasets/threads/off-thread.js'
import { readingOf } from '../../src/datasets/formats/index.ts'
import { startsLines } from '../../src/datasets/split/rows.ts'
import { Merge } from '../../src/datasets/threads/merge.ts'
import { readRange } from '../../src/datasets/threads/range.ts'
import { alpacaRows, check, LIMITS, lines, temporaryFolder } from './helpers.ts'
import { mutated } from './mutations.ts'

describe('ranges of JSON Lines', () => {
  it('give the report of the whole, wherever they are cut', async () => {
    const path = join(await temporaryFolder(), 'x.jsonl')
    const reading = readingOf({}, undefined)
    fc.assert(
      fc.property(mutated, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 6 }), (file, shares) => {
        fc.pre(startsLines(file))
        writeFileSync(path, file)
        const fd = openSync(path, 'r')
        const merge = new Merge()
        const cuts = [...new Set(shares.map((share) => Math.floor(share * file.length)))].sort((a, b) => a - b)
        const ends = [...cuts.filter((cut) => cut > 0 && cut < file.length), file.length]
        ends.forEach((to, i) => {
          merge.add(readRange(fd, file.length, { from: i === 0 ? 0 : (ends[i - 1] as number), to }, reading, 1 << 24))
        })
        closeSync(fd)
        expect(merge.report(file.length, undefined, reading.expected)).toEqual(check(file))
      }),
      { numRuns: 300 },
    )
  })
})

describe('on threads', () => {
  const task = (fd: number, threads: number) => ({
    file: { fd, name: 'x.jsonl' },
    asked: undefined,
    limits: LIMITS,
    threads,
  })

  it('leaves the event loop to others: the work is not done on this thread', async () => {
    const path = join(await temporaryFolder(), 'x.json')
    await writeFile(path, JSON.stringify(alpacaRows(200_000)))
    const handle = await open(path)
    try {
      const started: unknown[] = []
      const note = (worker: unknown) => started.push(worker)
      process.on('worker', note)
      const { report } = await offThread('check', task(handle.fd, 1))
      process.off('worker', note)
      expect(report.total_samples).toBe(200_000)
      expect(started.length).toBeLessThanOrEqual(1)
      // Each thread has a scan of its own: that of this one has read nothing.
      expect(scanOfThisThread.length).toBe(0)
    } finally {
      await handle.close()
    }
  }, 60_000)

  it('a large file has the same report from one as from three', async () => {
    const path = join(await temporaryFolder(), 'x.jsonl')
    const rows = Array.from({ length: 4000 }, (_, i) => ({
      instruction: `Tell me about ${i % 3990}, please${i % 7 ? '' : '…'}`,
      output: i === 3000 ? 3 : 'word '.repeat(3700),
    }))
    await writeFile(path, lines(...rows))
    const handle = await open(path)
    try {
      const one = await checkBuilt(task(handle.fd, 1))
      expect(one.report).toMatchObject({
        valid: false,
        total_samples: 4000,
        counts: { wrong_type: 1, long_output: 3999 },
      })
      expect(one.report.size_bytes).toBeGreaterThan(64 * 1024 * 1024)
      expect(await checkBuilt(task(handle.fd, 3))).toEqual(one)
      expect(await offThread('check', task(handle.fd, 2))).toEqual(one)
    } finally {
      await handle.close()
    }
  }, 120_000)

  it('small files are read by a thread that is there, and by another after a fault', async () => {
    const path = join(await temporaryFolder(), 'x.jsonl')
    await writeFile(path, lines(...alpacaRows(20)))
    const handle = await open(path)
    try {
      await offThread('check', task(handle.fd, 1))
      let started = 0
      const note = () => started++
      process.on('worker', note)
      for (let i = 0; i < 3; i++) await offThread('check', task(handle.fd, 1))
      expect(started).toBe(0)
      await expect(offThread('check', task(-1, 1))).rejects.toThrow()
      await expect(offThread('check', task(handle.fd, 1), AbortSignal.abort(new Error('left')))).rejects.toThrow('left')
      expect((await offThread('check', task(handle.fd, 1))).report).toMatchObject({ valid: true, total_samples: 20 })
      process.off('worker', note)
      expect(started).toBe(1)
    } finally {
      await handle.close()
    }
  }, 60_000)

  it('tells a refusal as on this one', async () => {
    const path = join(await temporaryFolder(), 'x.jsonl')
    await writeFile(path, lines(...alpacaRows(20)))
    const handle = await open(path)
    try {
      await expect(offThread('check', { ...task(handle.fd, 1), snapshots: '/dev/full/x' })).rejects.toThrow(/ENOTDIR/)
    } finally {
      await handle.close()
    }
  })
})

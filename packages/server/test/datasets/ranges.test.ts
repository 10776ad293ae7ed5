import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { scan as scanOfThisThread } from '../../dist/datasets/text/scan.js'
// As built: threads load JavaScript only.
import { check as checkBuilt } from '../../dist/datasets/threads/check.js'
import { offThread } from '../../dist/datasets/threads/off-thread.js'
import { readingOf } from '../../src/datasets/formats/index.ts'
import { startsArray, startsLines } from '../../src/datasets/split/rows.ts'
import { boundaryOf } from '../../src/datasets/threads/boundary.ts'
import { Chain } from '../../src/datasets/threads/chain.ts'
import { Merge } from '../../src/datasets/threads/merge.ts'
import { readRange } from '../../src/datasets/threads/range.ts'
import { alpacaRows, check, LIMITS, lines, temporaryFolder } from './helpers.ts'
import { mutated, share } from './mutations.ts'

describe('ranges of a file', () => {
  const cut = fc.array(share, { maxLength: 6 })

  it.each(['JSON Lines', 'an array'])(
    'of %s give the report of the whole, wherever they are cut',
    async (kind) => {
      const path = join(await temporaryFolder(), 'x.jsonl')
      const reading = readingOf({}, undefined)
      let shared = 0
      fc.assert(
        fc.property(mutated, cut, (file, shares) => {
          const boundary = startsArray(file) ? boundaryOf(file) : null
          fc.pre(kind === 'an array' ? boundary !== null : startsLines(file))
          shared++
          writeFileSync(path, file)
          const fd = openSync(path, 'r')
          const merge = new Merge(boundary ? 'array' : 'lines')
          const task = { fd, size: file.length, reading, maxRowBytes: 1 << 24, boundary }
          const chain = new Chain(task, merge)
          const cuts = [...new Set(shares.map((share) => Math.floor(share * file.length)))].sort((a, b) => a - b)
          const ends = [...cuts.filter((each) => each > 0 && each < file.length), file.length]
          ends.forEach((to, i) => {
            const range = { from: i === 0 ? 0 : (ends[i - 1] as number), to }
            chain.add(range, readRange(task, range))
          })
          closeSync(fd)
          expect(merge.report(file.length, undefined, reading.expected)).toEqual(check(file))
        }),
        { numRuns: 250 },
      )
      expect(shared).toBeGreaterThan(100)
    },
    120_000,
  )

  it('of an array begin where rows do, or are read again: a boundary may stand inside of a row', () => {
    const inside = { id: 1, output: 'b', list: [{ a: 1 }, { instruction: 'no row' }, { instruction: 'nor this' }] }
    const file = Buffer.from(JSON.stringify([...alpacaRows(3), inside, { ...inside, id: 2 }, ...alpacaRows(9)]))
    const boundary = boundaryOf(file)
    expect(String(Buffer.from(boundary?.bytes ?? []))).toBe('},{"instruction"')
    const path = join(mkdtempSync(join(tmpdir(), 'ranges-')), 'x.json')
    writeFileSync(path, file)
    const fd = openSync(path, 'r')
    const task = { fd, size: file.length, reading: readingOf({}, undefined), maxRowBytes: 1 << 24, boundary }
    let wrong = 0
    for (let cut = 1; cut < file.length; cut += 5) {
      const merge = new Merge('array')
      const chain = new Chain(task, merge)
      const first = readRange(task, { from: 0, to: cut })
      const second = readRange(task, { from: cut, to: file.length })
      if (second.start !== first.next) wrong++
      chain.add({ from: 0, to: cut }, first)
      chain.add({ from: cut, to: file.length }, second)
      expect(merge.report(file.length, undefined, task.reading.expected)).toEqual(check(file))
    }
    closeSync(fd)
    rmSync(dirname(path), { recursive: true })
    expect(wrong).toBeGreaterThan(5)
  }, 120_000)
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

  it.each(['x.jsonl', 'x.json'])(
    'a large file (%s) has the same report from one as from three',
    async (name) => {
      const path = join(await temporaryFolder(), name)
      const rows = Array.from({ length: 15_000 }, (_, i) => ({
        instruction: `Tell me about ${i % 14_990}, please${i % 7 ? '' : '…'}`,
        output: i === 3000 ? 3 : 'word '.repeat(990),
      }))
      await writeFile(path, name === 'x.json' ? JSON.stringify(rows, null, 1) : lines(...rows))
      const handle = await open(path)
      try {
        const one = await checkBuilt(task(handle.fd, 1))
        expect(one.report).toMatchObject({
          valid: false,
          total_samples: 15_000,
          counts: { wrong_type: 1, duplicate_row: 7 },
        })
        expect(one.report.size_bytes).toBeGreaterThan(64 * 1024 * 1024)
        expect(await checkBuilt(task(handle.fd, 3))).toEqual(one)
        expect(await offThread('check', task(handle.fd, 2))).toEqual(one)
      } finally {
        await handle.close()
      }
    },
    120_000,
  )

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

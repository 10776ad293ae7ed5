/** What every driver must do with data sets; part of the conformance suite. */
import { ServiceError } from '@mlx-training/contract'
import { describe, expect, it } from 'vitest'
import type { DatasetRecord, Store } from '../../src/store/port.ts'
import { newJob } from '../jobs/jobs.ts'

export function datasetRecord(n: number, change: Partial<DatasetRecord> = {}): DatasetRecord {
  return {
    id: `ds_${String(n).padStart(20, '0')}`,
    identity: `identity ${n}`,
    name: `data ${n}.jsonl`,
    format: 'alpaca',
    container: 'json',
    compressed: false,
    rows: 10,
    valid_rows: 10,
    bytes: 1000,
    sha256: 'ab'.repeat(32),
    valid: true,
    origin: null,
    createdAt: '2026-01-01T00:00:00.000Z',
    report: {
      valid: true,
      format: 'alpaca',
      total_samples: 10,
      errors: [],
      warnings: ['Sample 3: ü'],
      sample_preview: null,
      detection: '',
      issues: [],
      counts: {},
      valid_samples: 10,
      size_bytes: 1000,
      confidence: 1,
      statistics: {
        characters: null,
        words: null,
        output_words: null,
        turns: null,
        roles: {},
        scripts: {},
        rows_with_tools: 0,
        turns_not_learned: 0,
        duplicates: { exact: 0, normalised: 0, same_question: 0 },
      },
    },
    ...change,
  }
}

export function datasetConformance(open: () => Store): void {
  describe('data sets', () => {
    const all = async (limit = 9, after?: string) => (await open().datasets.list(limit, after)).map(({ name }) => name)

    it('are kept as they were given', async () => {
      const { datasets } = open()
      const given = datasetRecord(1)
      expect(await datasets.insert(given)).toEqual({ dataset: given, inserted: true })
      expect(await datasets.get(given.id)).toEqual(given)
      expect(await datasets.byIdentity(given.identity)).toEqual(given)
      expect(await datasets.get('ds_x')).toBeNull()
      expect(await datasets.byIdentity('x')).toBeNull()
    })

    it('are one when they are the same, even when they come at once', async () => {
      const { datasets } = open()
      const results = await Promise.all(
        [1, 2, 3].map((n) => datasets.insert(datasetRecord(n, { identity: 'the same' }))),
      )
      expect(results.filter(({ inserted }) => inserted)).toHaveLength(1)
      expect(new Set(results.map(({ dataset }) => dataset.id)).size).toBe(1)
      expect(await datasets.ids()).toEqual([results[0]?.dataset.id])
    })

    it('are listed newest first, page by page', async () => {
      const { datasets } = open()
      for (let n = 0; n < 5; n++) await datasets.insert(datasetRecord(n))
      expect(await all()).toEqual([4, 3, 2, 1, 0].map((n) => `data ${n}.jsonl`))
      expect(await all(2)).toEqual(['data 4.jsonl', 'data 3.jsonl'])
      expect(await all(2, datasetRecord(3).id)).toEqual(['data 2.jsonl', 'data 1.jsonl'])
      expect(await all(2, datasetRecord(0).id)).toEqual([])
      await expect(all(2, datasetRecord(9).id)).rejects.toMatchObject({ code: 'not_found' })
    })

    it('know the experiments that used them, and stay while one has not ended', async () => {
      const store = open()
      const [a, b] = [datasetRecord(1), datasetRecord(2)]
      for (const each of [a, b]) await store.datasets.insert(each)
      const job = (name: string, dataset: string | null, validation: string | null) => {
        const { plan, ...rest } = newJob(name)
        const held = { path: '/s/cd.jsonl', sha256: 'cd', samples: 2, ...(validation && { id: validation }) }
        return {
          ...rest,
          plan: { ...plan, dataset: { ...plan.dataset, ...(dataset && { id: dataset }) }, validation: held },
        }
      }
      const first = await store.insertJob(job('first', a.id, null), [])
      await store.insertJob(job('second', b.id, a.id), [])
      // Its name alone is no use of it.
      await store.insertJob(job(b.id, null, null), [])
      const usesOfB = [{ name: 'second', ended: false }]
      const usesOfA = [...usesOfB, { name: 'first', ended: false }]
      expect(await store.datasets.uses([a.id])).toEqual(new Map([[a.id, usesOfA]]))
      expect(await store.datasets.uses([b.id, a.id, 'ds_none'])).toEqual(
        new Map([
          [b.id, usesOfB],
          [a.id, usesOfA],
          ['ds_none', []],
        ]),
      )
      expect(await store.datasets.uses([])).toEqual(new Map())
      const refused = store.datasets.remove(b.id)
      await expect(refused).rejects.toBeInstanceOf(ServiceError)
      await expect(refused).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('"second"') })
      await store.update(first.id, null, () => ({ change: { completedAt: '2026-01-01T00:00:00Z' }, events: [] }))
      expect((await store.datasets.uses([a.id])).get(a.id)?.[1]).toEqual({ name: 'first', ended: true })
      await store.removeJob('second', () => {})
      expect(await store.datasets.remove(b.id)).toEqual(b)
      expect(await store.datasets.remove(b.id)).toBeNull()
      expect(await store.datasets.remove(a.id)).toEqual(a)
      expect(await store.datasets.ids()).toEqual([])
    })
  })
}

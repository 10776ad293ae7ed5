/** What every driver must do with evaluations; part of the conformance suite. */
import { describe, expect, it } from 'vitest'
import { pendingResult } from '../../src/evaluation/results.ts'
import type { EvaluationRecord, Store } from '../../src/store/port.ts'

export function evaluationRecord(n: number, change: Partial<EvaluationRecord> = {}): EvaluationRecord {
  return {
    id: `ev_${String(n).padStart(20, '0')}`,
    state: 'queued',
    reason: null,
    created_at: '2026-01-01T00:00:00.000Z',
    started_at: null,
    completed_at: null,
    models: ['ü'],
    dataset_path: 'data.json',
    progress: null,
    request: { models: ['ü'], seed: 0 },
    dataset_rows: 3,
    warnings: [],
    results: [pendingResult('ü')],
    samples: [],
    ...change,
  }
}

export function evaluationConformance(open: () => Store): void {
  describe('evaluations', () => {
    const ids = async (limit = 9, after?: string) => (await open().evaluations.list(limit, after)).map(({ id }) => id)
    const id = (n: number) => evaluationRecord(n).id

    it('are kept as they were given, and as they are put', async () => {
      const { evaluations } = open()
      const given = evaluationRecord(1)
      await evaluations.insert(given)
      expect(await evaluations.get(given.id)).toEqual(given)
      expect(await evaluations.get('ev_x')).toBeNull()
      const done = { ...given, state: 'completed' as const, completed_at: '2026-01-02T00:00:00.000Z', warnings: ['w'] }
      await evaluations.put(done)
      expect(await evaluations.get(given.id)).toEqual(done)
    })

    it('are listed newest first, page by page, and the unended ones oldest first', async () => {
      const { evaluations } = open()
      const states = ['completed', 'queued', 'running', 'failed', 'queued'] as const
      for (const [n, state] of states.entries()) await evaluations.insert(evaluationRecord(n, { state }))
      expect(await ids()).toEqual([4, 3, 2, 1, 0].map(id))
      expect(await ids(2)).toEqual([4, 3].map(id))
      expect(await ids(2, id(3))).toEqual([2, 1].map(id))
      await expect(ids(2, id(9))).rejects.toMatchObject({ code: 'not_found' })
      expect((await evaluations.unended()).map((each) => each.id)).toEqual([1, 2, 4].map(id))
    })

    it('that were removed stay so', async () => {
      const { evaluations } = open()
      await evaluations.insert(evaluationRecord(1))
      expect(await evaluations.remove(id(1))).toEqual(evaluationRecord(1))
      expect(await evaluations.remove(id(1))).toBeNull()
      await evaluations.put(evaluationRecord(1, { state: 'completed' }))
      expect(await evaluations.get(id(1))).toBeNull()
    })
  })
}

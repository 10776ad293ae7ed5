import type { Evaluation, EvaluationSummary } from '@mlx-training/contract'
import type { Evaluations, Told } from '../evaluation/port.ts'
import type { Handlers } from './routes.ts'

export function evaluate({
  evaluations,
}: {
  evaluations: Evaluations
}): Pick<Handlers, 'evaluateStart' | 'evaluateList' | 'evaluateGet' | 'evaluateCancel' | 'evaluateDelete'> {
  return {
    evaluateStart: async ({ body }) => {
      const { record, position } = await evaluations.submit(body)
      return { id: record.id, state: record.state, queue_position: position }
    },
    evaluateList: async ({ query }) => {
      const found = await evaluations.list(query.limit + 1, query.after)
      const shown = found.slice(0, query.limit)
      return {
        evaluations: shown.map(summaryOf),
        next: found.length > query.limit ? (shown.at(-1)?.record.id ?? null) : null,
      }
    },
    evaluateGet: async ({ params }) => wholeOf(await evaluations.get(params.id)),
    evaluateCancel: async ({ params }) => {
      const { record, position } = await evaluations.cancel(params.id)
      return { id: record.id, state: record.state, queue_position: position }
    },
    evaluateDelete: async ({ params }) => {
      const { record } = await evaluations.remove(params.id)
      return { id: record.id, deleted: true, state: record.state }
    },
  }
}

const wholeOf = ({ record, position }: Told): Evaluation => ({ ...record, queue_position: position })

const summaryOf = (told: Told): EvaluationSummary => {
  const { request: _, dataset_rows: __, warnings: ___, results, samples: ____, ...summary } = wholeOf(told)
  return { ...summary, models_failed: results.filter(({ state }) => state === 'failed').length }
}

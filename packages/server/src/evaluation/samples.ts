/** The few rows worth looking at: the last model's worst, and where it differs most from the first. Pure. */
import type { EvaluationSample } from '@mlx-training/contract'
import type { Answers, RowLoss, Rows } from './results.ts'
import type { HeldRow } from './rows.ts'

const OF_EACH = 3
const SHOWN_CHARACTERS = 1000

interface Chosen {
  sample: number
  why: EvaluationSample['why']
}

/** Where answers were asked for, only answered rows tell what has changed, so that both answers can be read. */
export function chooseSamples(rows: readonly (Rows | null)[], answers: readonly (Answers | null)[]): Chosen[] {
  const evaluated = rows.flatMap((each, i) => (each ? [{ rows: each, answers: answers[i] ?? null }] : []))
  const [first, last] = [evaluated[0], evaluated.at(-1)]
  if (!first || !last) return []
  const chosen = new Map<number, Chosen>()
  const take = (why: Chosen['why'], ranked: [sample: number, by: number][]) => {
    for (const [sample] of ranked.sort(([, a], [, b]) => b - a).slice(0, OF_EACH))
      if (!chosen.has(sample)) chosen.set(sample, { sample, why })
  }
  if (first !== last) {
    const change = [...last.rows].flatMap(([sample, row]): [number, number][] => {
      const before = first.rows.get(sample)
      if (!before || (last.answers && !last.answers.has(sample))) return []
      return [[sample, meanLoss(row) - meanLoss(before)]]
    })
    take(
      'worsened',
      change.filter(([, by]) => by > 0),
    )
    take(
      'improved',
      change.filter(([, by]) => by < 0).map(([sample, by]) => [sample, -by]),
    )
  }
  take(
    'worst',
    [...last.rows].map(([sample, row]) => [sample, meanLoss(row)]),
  )
  const order: Chosen['why'][] = ['worst', 'worsened', 'improved']
  return [...chosen.values()].sort((a, b) => order.indexOf(a.why) - order.indexOf(b.why))
}

export function sampleOf(
  { sample, prompt, reference }: HeldRow,
  why: Chosen['why'],
  models: readonly string[],
  rows: readonly (Rows | null)[],
  answers: readonly (Answers | null)[],
): EvaluationSample {
  return {
    sample,
    why,
    prompt: shown(prompt),
    reference: shown(reference),
    models: models.map((model, i) => {
      const row = rows[i]?.get(sample)
      const answer = answers[i]?.get(sample)
      return {
        model,
        loss: row && row.loss !== null ? row.loss / row.trained : null,
        token_accuracy: row ? row.correct / row.trained : null,
        text: answer ? shown(answer.text) : null,
        scores: answer?.scores ?? null,
      }
    }),
  }
}

/** One that is not finite is the worst there is. */
const meanLoss = ({ loss, trained }: RowLoss) => (loss === null ? Number.MAX_VALUE : loss / trained)

const shown = (text: string) => (text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text)

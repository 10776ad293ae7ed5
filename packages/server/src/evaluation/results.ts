/** What rows of losses and of scored answers say of a model, and of how it differs from the first one. Pure. */
import type { Estimate, ModelEvaluation, TextScores } from '@mlx-training/contract'
import type { HeldOutLosses } from '../engine/port.ts'
import { SCORES } from './scores.ts'
import { compared, mean, ratio, share, sum } from './statistics.ts'

/** Losses and right tokens of a row, summed over its supervised tokens. */
export interface RowLoss {
  trained: number
  correct: number
  /** null: not finite. */
  loss: number | null
}
export type Rows = ReadonlyMap<number, RowLoss>

export interface Scored {
  text: string
  scores: TextScores
}
/** By row number; a row that could not be answered is not there. */
export type Answers = ReadonlyMap<number, Scored>

const LARGEST_EXPONENT = 700

export const pendingResult = (model: string): ModelEvaluation => ({
  model,
  state: 'pending',
  error: null,
  rows: null,
  rows_dropped: null,
  rows_truncated: null,
  trained_tokens: null,
  loss: null,
  perplexity: null,
  token_accuracy: null,
  difference: null,
  generated: null,
  warnings: [],
  seconds: null,
})

export function rowsOf({ rows: { samples, trained, correct, losses } }: Pick<HeldOutLosses, 'rows'>): Rows {
  return new Map(
    samples.map((sample, i) => [
      sample,
      { trained: trained[i] as number, correct: correct[i] as number, loss: losses[i] ?? null },
    ]),
  )
}

export function lossesOf(
  rows: Rows,
  { evaluated, warnings }: Pick<HeldOutLosses, 'evaluated' | 'warnings'>,
): Pick<
  ModelEvaluation,
  'rows' | 'rows_dropped' | 'rows_truncated' | 'trained_tokens' | 'loss' | 'perplexity' | 'token_accuracy' | 'warnings'
> {
  const all = [...rows.values()]
  const tokens = all.map(({ trained }) => trained)
  const broken = all.filter(({ loss }) => loss === null).length
  const loss =
    broken > 0
      ? null
      : ratio(
          all.map((row) => row.loss as number),
          tokens,
        )
  return {
    rows: all.length,
    rows_dropped: evaluated.rows_dropped,
    rows_truncated: evaluated.rows_truncated,
    trained_tokens: sum(tokens),
    loss,
    perplexity: loss && Math.exp(Math.min(loss.value, LARGEST_EXPONENT)),
    token_accuracy: ratio(
      all.map(({ correct }) => correct),
      tokens,
    ),
    warnings: broken > 0 ? [...warnings, `The loss of ${broken} of ${all.length} rows is not finite`] : warnings,
  }
}

/** On the rows of both. null where there are none, one has no number, or their tokens differ, as of another tokenizer: a loss
 *  a token then says nothing beside the other. */
export function differenceOf(first: Rows, other: Rows): ModelEvaluation['difference'] {
  const pairs = [...other].flatMap(([sample, row]) => {
    const before = first.get(sample)
    return before ? [[before, row] as const] : []
  })
  if (pairs.some(([a, b]) => a.trained !== b.trained || a.loss === null || b.loss === null)) return null
  const tokens = pairs.map(([, { trained }]) => trained)
  const losses = pairs.map(([a, b]) => [a.loss, b.loss] as [number, number])
  const loss = ratio(
    losses.map(([a, b]) => b - a),
    tokens,
  )
  const token_accuracy = ratio(
    pairs.map(([a, b]) => b.correct - a.correct),
    tokens,
  )
  return loss && token_accuracy && { loss, token_accuracy, ...compared(losses) }
}

export function generatedOf(answers: Answers, failed: number, first: Answers | null): ModelEvaluation['generated'] {
  const all = [...answers.values()].map(({ scores }) => scores)
  if (all.length === 0) return null
  const of = (name: keyof TextScores) => all.map((scores) => scores[name])
  const scores = Object.fromEntries(
    SCORES.map((name) => [name, name === 'exact_match' ? share(of(name)) : mean(of(name))]),
  )
  return {
    rows: all.length,
    failed,
    scores: scores as Record<keyof TextScores, Estimate>,
    difference: first && answersDiffer(first, answers),
  }
}

function answersDiffer(first: Answers, other: Answers): NonNullable<ModelEvaluation['generated']>['difference'] {
  const pairs = [...other].flatMap(([sample, { scores }]) => {
    const before = first.get(sample)
    return before ? [[before.scores, scores] as const] : []
  })
  const rouge_l = mean(pairs.map(([a, b]) => b.rouge_l - a.rouge_l))
  const exact_match = mean(pairs.map(([a, b]) => b.exact_match - a.exact_match))
  // A score is better when it is higher.
  return (
    rouge_l && exact_match && { rouge_l, exact_match, ...compared(pairs.map(([a, b]) => [-a.rouge_l, -b.rouge_l])) }
  )
}

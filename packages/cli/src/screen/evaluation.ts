/** The results of an evaluation as tables. */
import type { Estimate, Evaluation, EvaluationSample, ModelEvaluation } from '@mlx-training/sdk'
import pc from './colours.ts'
import { count, loss, percent } from './format.ts'
import { harmless, marked, pairs, table, warning } from './print.ts'
import { evaluationState } from './state.ts'

/** `rows`: also those that are worth looking at. */
export function describeEvaluation(evaluation: Evaluation, rows = false): string {
  const { results, samples, warnings, dataset_path, dataset_rows } = evaluation
  const parts = [
    pairs([
      ['evaluation', `${evaluation.id}  ${evaluationState(evaluation.state)}`],
      ['data', `${dataset_path.split('/').slice(-2).join('/')}, ${count(dataset_rows)} rows`],
    ]),
    losses(results),
    differences(results),
    scores(results),
    ...results.flatMap(({ model, error }) => (error ? [pc.red(marked('✗', `${model}: ${error}`))] : [])),
    [...new Set([...warnings, ...results.flatMap(({ warnings }) => warnings)])].map(warning).join('\n'),
    ...(rows ? samples.map(row) : []),
  ]
  return parts.filter((part) => part !== '').join('\n\n')
}

function losses(results: readonly ModelEvaluation[]): string {
  const measured = results.filter((result) => result.loss !== null)
  if (measured.length === 0) return ''
  return table(
    ['model', 'loss', 'perplexity', 'tokens right', 'rows'],
    measured.map((result) => [
      result.model,
      plusMinus(result.loss, loss, (half) => half.toPrecision(2)),
      loss(result.perplexity),
      plusMinus(result.token_accuracy, percent),
      count(result.rows ?? 0),
    ]),
    [1, 2, 3, 4],
  )
}

function differences([first, ...others]: readonly ModelEvaluation[]): string {
  const compared = others.filter((result) => result.difference !== null)
  if (!first || compared.length === 0) return ''
  const rows = compared.map(({ model, difference }) => {
    if (!difference) return []
    const { loss: change, token_accuracy, better, worse, same } = difference
    return [
      model,
      judged(change, (value) => value < 0, `${signed(change.value, loss)}${interval(change)}`),
      signed(token_accuracy.value, percent),
      count(better),
      count(worse),
      count(same),
    ]
  })
  return table([`against ${first.model}`, 'loss', 'right', 'better', 'worse', 'same'], rows, [1, 2, 3, 4, 5])
}

function scores(results: readonly ModelEvaluation[]): string {
  const answered = results.flatMap(({ model, generated }) => (generated ? [{ model, generated }] : []))
  if (answered.length === 0) return ''
  const rows = answered.map(({ model, generated: { scores, rows, failed, difference } }) => [
    model,
    plusMinus(scores.rouge_l, two),
    plusMinus(scores.chrf, two),
    percent(scores.exact_match.value, 0),
    difference ? judged(difference.rouge_l, (value) => value > 0, signed(difference.rouge_l.value, two)) : '',
    `${count(rows)}${failed > 0 ? pc.red(` (${failed} failed)`) : ''}`,
  ])
  return table(['answers of', 'ROUGE-L', 'chrF', 'exact', 'ROUGE-L to first', 'rows'], rows, [1, 2, 3, 4, 5])
}

const two = (value: number) => value.toFixed(2)

/** Half of the 95% interval; a single row has none. */
function plusMinus(
  estimate: Estimate | null,
  format: (value: number) => string,
  formatHalf: (value: number) => string = format,
): string {
  if (!estimate) return '–'
  const { value, interval } = estimate
  const [low, high] = interval ?? []
  return format(value) + (low === undefined || high === undefined ? '' : pc.dim(` ± ${formatHalf((high - low) / 2)}`))
}

const interval = ({ interval }: Estimate) =>
  interval ? pc.dim(` (${interval.map((end) => signed(end, (value) => value.toPrecision(2))).join(' to ')})`) : ''

const signed = (value: number, format: (value: number) => string) =>
  `${value < 0 ? '−' : '+'}${format(Math.abs(value))}`

/** Coloured when its 95% interval leaves out zero: otherwise it may be chance. */
function judged({ value, interval }: Estimate, good: (value: number) => boolean, text: string): string {
  const [low = 0, high = 0] = interval ?? []
  if (low <= 0 && high >= 0) return text
  return good(value) ? pc.green(text) : pc.red(text)
}

function row({ sample, why, prompt, reference, models }: EvaluationSample): string {
  return [
    `${pc.bold(`row ${sample}`)}  ${why}`,
    pc.dim(harmless(prompt)),
    `reference: ${harmless(reference)}`,
    ...models.map(
      ({ model, loss: value, text }) =>
        `${model}  ${pc.dim(`loss ${loss(value)}`)}${text === null ? '' : `: ${harmless(text)}`}`,
    ),
  ].join('\n')
}

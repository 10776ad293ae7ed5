/** What the curves of a run are, one run's or several over each other. */
import type { Line } from '../../charts/chart.tsx'
import type { Axis } from '../../charts/view.ts'
import { brief, number, short } from '../../format.ts'
import type { Metric, RunData } from '../../live/run-data.ts'
import { memoryText } from './formats.ts'

export interface MetricCurve {
  metric: Metric
  title: string
  format: (value: number) => string
  smoothed?: boolean
  log?: boolean
}

/** Beside the loss. */
export const OTHERS: MetricCurve[] = [
  { metric: 'learning_rate', title: 'Learning rate', format: number },
  { metric: 'grad_norm', title: 'Gradient norm', format: number, smoothed: true, log: true },
  { metric: 'tokens_per_second', title: 'Tokens per second', format: (v) => short(Math.round(v)), smoothed: true },
  { metric: 'memory_mb', title: 'Memory', format: memoryText },
]

export const X_FORMATS: Record<Axis, (value: number) => string> = { step: (value) => short(value), time: brief }

export function xOf(data: RunData, by: Axis): Float64Array {
  return by === 'step' ? data.step.view() : data.at.view().map((at) => secondsSince(data, at))
}

/** Losses over the held-out rows. */
export const evaluationLine = (data: RunData, label: string, colour: number, by: Axis): Line => ({
  label,
  colour,
  x: data.evaluations.map(({ step, at }) => (by === 'step' ? step : secondsSince(data, at))),
  y: data.evaluations.map(({ loss }) => loss),
  points: true,
})

const secondsSince = (data: RunData, at: number) => (at - data.at.at(0)) / 1000

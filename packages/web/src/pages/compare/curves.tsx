import { useMemo } from 'preact/hooks'
import { Chart, type Line } from '../../charts/chart.tsx'
import { smooth } from '../../charts/smooth.ts'
import { type Axis, axis, logarithmic, smoothing } from '../../charts/view.ts'
import { number, short } from '../../format.ts'
import type { Metric } from '../../live/run-data.ts'
import type { ComparedRun } from '../../live/runs.ts'
import { X_FORMATS, xOf } from '../experiment/charts.tsx'
import { memoryText } from '../experiment/formats.ts'

const METRICS: {
  metric: Metric
  title: string
  format: (value: number) => string
  smoothed?: boolean
  log?: boolean
}[] = [
  { metric: 'loss', title: 'Loss', format: number, smoothed: true, log: true },
  { metric: 'learning_rate', title: 'Learning rate', format: number },
  { metric: 'grad_norm', title: 'Gradient norm', format: number, smoothed: true, log: true },
  { metric: 'tokens_per_second', title: 'Tokens per second', format: (v) => short(Math.round(v)), smoothed: true },
  { metric: 'memory_mb', title: 'Memory', format: memoryText },
]

export function Curves({ runs, version }: { runs: ComparedRun[]; version: number }) {
  const [loss, ...others] = METRICS
  return (
    <div class="charts">
      {loss && <Overlay {...loss} runs={runs} version={version} height={300} />}
      {runs.some(({ data }) => data.evaluations.length > 0) && <Validation runs={runs} version={version} />}
      {others.map((metric) => (
        <Overlay key={metric.metric} {...metric} runs={runs} version={version} height={180} />
      ))}
    </div>
  )
}

type OverlayProps = (typeof METRICS)[number] & { runs: ComparedRun[]; version: number; height: number }

function Overlay({ metric, title, format, smoothed = false, log = false, runs, version, height }: OverlayProps) {
  const weight = smoothed ? smoothing.value : 0
  const by = axis.value
  const lines = useMemo(
    () => runs.map((run, colour) => lineOf(run, colour, metric, by, weight)),
    [runs, version, metric, by, weight],
  )
  return (
    <Chart
      title={title}
      lines={lines}
      log={log && logarithmic.value}
      height={height}
      format={format}
      xFormat={X_FORMATS[by]}
      whole={by === 'step'}
      names={metric === 'loss'}
    />
  )
}

/** Raw curves of ten runs would hide each other, so that only the smoothed ones are drawn. */
const lineOf = ({ name, data }: ComparedRun, colour: number, metric: Metric, by: Axis, weight: number): Line => ({
  label: name,
  colour,
  x: xOf(data, by),
  y: smooth(data.metrics[metric].view(), weight),
})

function Validation({ runs, version }: { runs: ComparedRun[]; version: number }) {
  const by = axis.value
  const lines = useMemo(
    () =>
      runs.map(({ name, data }, colour) => ({
        label: name,
        colour,
        x: data.evaluations.map(({ step, at }) => (by === 'step' ? step : (at - data.at.at(0)) / 1000)),
        y: data.evaluations.map(({ loss }) => loss),
        points: true,
      })),
    [runs, version, by],
  )
  return (
    <Chart
      title="Validation loss"
      lines={lines}
      log={logarithmic.value}
      height={180}
      xFormat={X_FORMATS[by]}
      whole={by === 'step'}
      names={false}
    />
  )
}

import { useMemo } from 'preact/hooks'
import { Chart, type Line } from '../../charts/chart.tsx'
import { smooth } from '../../charts/smooth.ts'
import { type Axis, axis, logarithmic, smoothing } from '../../charts/view.ts'
import { number } from '../../format.ts'
import type { Metric } from '../../live/run-data.ts'
import type { ComparedRun } from '../../live/runs.ts'
import { evaluationLine, type MetricCurve, OTHERS, X_FORMATS, xOf } from '../experiment/curves.ts'

const LOSS: MetricCurve = { metric: 'loss', title: 'Loss', format: number, smoothed: true, log: true }

export function Curves({ runs, version }: { runs: ComparedRun[]; version: number }) {
  return (
    <div class="charts">
      <Overlay {...LOSS} runs={runs} version={version} height={300} />
      {runs.some(({ data }) => data.evaluations.length > 0) && <Validation runs={runs} version={version} />}
      {OTHERS.map((metric) => (
        <Overlay key={metric.metric} {...metric} runs={runs} version={version} height={180} />
      ))}
    </div>
  )
}

type OverlayProps = MetricCurve & { runs: ComparedRun[]; version: number; height: number }

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
    () => runs.map(({ name, data }, colour) => evaluationLine(data, name, colour, by)),
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

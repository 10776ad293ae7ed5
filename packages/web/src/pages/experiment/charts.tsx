import { useMemo } from 'preact/hooks'
import { Chart, type Line } from '../../charts/chart.tsx'
import { ChartControls } from '../../charts/controls.tsx'
import { smooth } from '../../charts/smooth.ts'
import { type Axis, axis, logarithmic, smoothing } from '../../charts/view.ts'
import { Card } from '../../components/facts.tsx'
import { EmptyState, Skeleton } from '../../components/states.tsx'
import type { Run } from '../../live/run.ts'
import type { Metric, RunData } from '../../live/run-data.ts'
import { evaluationLine, OTHERS, X_FORMATS, xOf } from './curves.ts'

export function Charts({ run }: { run: Run }) {
  const version = run.version.value
  const { data } = run
  const ended = run.status.value?.completed_at != null
  if (data.step.length === 0)
    return (
      <Card>
        {run.complete.value ? (
          <EmptyState
            icon="chart"
            title={ended ? 'It ended before its first step' : 'No step has been made yet'}
            text={
              ended
                ? 'There are no curves to draw.'
                : 'Curves begin with the first one. Until then the model is loaded and the data are tokenised.'
            }
          />
        ) : (
          <Skeleton lines={8} />
        )}
      </Card>
    )
  return (
    <Card title="Curves" actions={<ChartControls />}>
      <div class="charts">
        <LossChart data={data} version={version} />
        {OTHERS.map(({ metric, title, format, smoothed = false, log = false }) => (
          <MetricChart key={metric} {...{ data, version, metric, title, format, smoothed, log }} />
        ))}
      </div>
    </Card>
  )
}

function LossChart({ data, version }: { data: RunData; version: number }) {
  const weight = smoothing.value
  const by = axis.value
  const lines = useMemo(() => {
    const lines = linesOf(data, 'loss', 'Training', by, weight)
    if (data.evaluations.length === 0) return lines
    return [...lines, evaluationLine(data, 'Validation', 1, by)]
  }, [data, version, weight, by])
  return (
    <Chart
      title="Loss"
      lines={lines}
      log={logarithmic.value}
      height={280}
      xFormat={X_FORMATS[by]}
      whole={by === 'step'}
    />
  )
}

function MetricChart(props: {
  data: RunData
  version: number
  metric: Metric
  title: string
  format: (value: number) => string
  smoothed: boolean
  log: boolean
}) {
  const { data, version, metric, title, format, smoothed, log } = props
  const weight = smoothed ? smoothing.value : 0
  const by = axis.value
  const lines = useMemo(() => linesOf(data, metric, title, by, weight), [data, version, metric, title, weight, by])
  return (
    <Chart
      title={title}
      lines={lines}
      log={log && logarithmic.value}
      height={180}
      format={format}
      xFormat={X_FORMATS[by]}
      whole={by === 'step'}
      names={false}
    />
  )
}

/** A metric's curve, smoothed, over the values that it is made of. */
function linesOf(data: RunData, metric: Metric, label: string, by: Axis, weight: number): Line[] {
  const x = xOf(data, by)
  const y = data.metrics[metric].view()
  if (weight === 0) return [{ label, colour: 0, x, y }]
  return [
    { label: `${label}, every step`, colour: 0, x, y, faint: true },
    { label, colour: 0, x, y: smooth(y, weight) },
  ]
}

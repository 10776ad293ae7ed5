/** Curves over one x axis. Zoom by dragging, all of it by a double click; keys do the same. */
import { useSignalEffect } from '@preact/signals'
import { useEffect, useId, useLayoutEffect, useMemo, useRef } from 'preact/hooks'
import { number } from '../format.ts'
import { palette } from './palette.ts'
import { createPlot, type Line, type Plot } from './plot.ts'
import { zoom } from './view.ts'

export type { Line } from './plot.ts'

export interface ChartProps {
  title: string
  /** Those that are not `faint` are in the legend. */
  lines: readonly Line[]
  /** Of a logarithmic y axis. */
  log?: boolean
  height?: number
  /** Values in the legend and on the axis. */
  format?: (value: number) => string
  xFormat?: (value: number) => string
  /** x has whole numbers: its axis, too. */
  whole?: boolean
  /** Charts of the same key show the same place under the pointer. */
  sync?: string
  /** Legend with names; off where a table beside the charts has them. */
  names?: boolean
}

export function Chart(props: ChartProps) {
  const {
    title,
    lines,
    log = false,
    height = 200,
    format = number,
    xFormat = String,
    whole = false,
    sync = 'page',
    names = true,
  } = props
  const host = useRef<HTMLDivElement>(null)
  const plot = useRef<Plot | null>(null)
  const values = useRef<(HTMLElement | null)[]>([])
  const id = useId()
  const shown = lines.filter((line) => !line.faint)
  // What a plot can't change once it is there.
  const shape = JSON.stringify([
    log,
    height,
    sync,
    whole,
    lines.map(({ colour, faint, points }) => [colour, faint, points]),
  ])

  const current = useRef({ lines, shown, format, xFormat })
  current.current = { lines, shown, format, xFormat }

  // The pointer moves more often than the page is to be rendered, so that values are written straight into the legend.
  const tell = (at: ((line: number) => number | null) | null) => {
    const { lines, shown, format } = current.current
    for (const [i, line] of shown.entries()) {
      const element = values.current[i]
      if (element) element.textContent = valueText(at?.(lines.indexOf(line)) ?? lastOf(line), format)
    }
  }
  useLayoutEffect(() => tell(null), [lines])

  // `shape` stands for what it reads.
  useEffect(() => {
    if (!host.current) return
    const made = createPlot(host.current, {
      lines: () => current.current.lines,
      log,
      height,
      sync,
      whole,
      format: (value) => current.current.format(value),
      xFormat: (value) => current.current.xFormat(value),
      onCursor: tell,
    })
    plot.current = made
    return () => made.destroy()
  }, [shape])
  useEffect(() => plot.current?.update(), [lines])
  useSignalEffect(() => {
    void zoom.value
    plot.current?.update()
  })
  useSignalEffect(() => {
    void palette.value
    plot.current?.redraw()
  })

  const summary = useMemo(
    () => `${title}. ${shown.map((line) => `${line.label}: ${spoken(line, format)}`).join('; ')}`,
    [lines, title, format],
  )
  return (
    <figure class="chart" aria-labelledby={id}>
      <figcaption class="chart-head">
        <h3 id={id}>{title}</h3>
        <ul class="chart-legend">
          {shown.map((line, i) => (
            <li key={line.label}>
              <span class={`swatch curve-${(line.colour % 10) + 1}`} aria-hidden="true" />
              {names && <span class="chart-name">{line.label}</span>}
              <span
                class="chart-value"
                ref={(element) => {
                  values.current[i] = element
                }}
              />
            </li>
          ))}
        </ul>
      </figcaption>
      <div
        class="chart-canvas"
        ref={host}
        role="img"
        aria-label={summary}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: keys move through the curve and zoom
        tabIndex={0}
        style={{ height: `${height}px` }}
        onKeyDown={(event) => plot.current?.key(event)}
      />
    </figure>
  )
}

const valueText = (value: number | null, format: (value: number) => string) => (value === null ? '–' : format(value))

function lastOf({ y }: Line): number | null {
  for (let i = y.length - 1; i >= 0; i--) if (!Number.isNaN(y[i])) return y[i] as number
  return null
}

function spoken(line: Line, format: (value: number) => string): string {
  const last = lastOf(line)
  if (last === null) return 'no values yet'
  let low = last
  for (let i = 0; i < line.y.length; i++) if ((line.y[i] as number) < low) low = line.y[i] as number
  return `${line.y.length.toLocaleString('en')} values, last ${format(last)}, lowest ${format(low)}`
}

/** A uPlot that draws what is in sight of long curves, and hears keys. */
import uPlot from 'uplot'
import { curveColour, faint, palette } from './palette.ts'
import { notAnyMore, soon } from './queue.ts'
import { type Curve, thin } from './thin.ts'
import { zoom } from './view.ts'

export interface Line extends Curve {
  label: string
  /** Number of the curve's colour, from 0. */
  colour: number
  /** Behind the others, and not in the legend: the values that a smoothed curve is made of. */
  faint?: boolean
  /** Few values: each is marked. */
  points?: boolean
}

export interface PlotOptions {
  lines: () => readonly Line[]
  log: boolean
  height: number
  sync: string
  /** x has whole numbers: its axis, too. */
  whole: boolean
  format: (value: number) => string
  xFormat: (value: number) => string
  /** A line's value under the pointer; null: the pointer has left. */
  onCursor: (at: ((line: number) => number | null) | null) => void
}

export interface Plot {
  /** Of other data, or another zoom. */
  update: () => void
  redraw: () => void
  key: (event: KeyboardEvent) => void
  destroy: () => void
}

/** 1, 2, 5, 10, 20, 50 … */
const WHOLE = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat()

/** So many lines are drawn one pixel wide, and with a point a pixel: without a graphics card, ten wide ones take 100 ms. */
const MANY = 4

const FONT = '11px system-ui, sans-serif'

export function createPlot(host: HTMLElement, options: PlotOptions): Plot {
  let range: [number, number] = [0, 1]
  const data = (): uPlot.AlignedData => {
    const lines = options.lines()
    range = zoom.peek() ?? extent(lines)
    const { x, y } = thin(
      lines,
      ...range,
      Math.max(50, Math.floor((host.clientWidth - 68) / (lines.length >= MANY ? 2 : 1))),
    )
    return [x, ...y] as uPlot.AlignedData
  }
  const plot = new uPlot(
    optionsOf(host, options, () => range),
    [[]],
    host,
  )
  // Another round for what uPlot takes a frame to know: its own width.
  const resize = new ResizeObserver(() => {
    if (host.clientWidth === plot.width || host.clientWidth === 0) return
    plot.setSize({ width: host.clientWidth, height: options.height })
    plot.setData(data())
  })
  resize.observe(host)
  const update = () => plot.setData(data())
  const redraw = () => plot.redraw(false, true)
  return {
    update: () => soon(update),
    redraw: () => soon(redraw),
    key: (event) => key(plot, event),
    destroy: () => {
      resize.disconnect()
      notAnyMore(update)
      notAnyMore(redraw)
      plot.destroy()
    },
  }
}

function optionsOf(host: HTMLElement, options: PlotOptions, range: () => [number, number]): uPlot.Options {
  const { log, height, sync, whole, format, xFormat, onCursor } = options
  const axis = {
    font: FONT,
    stroke: () => palette.peek().text,
    grid: { stroke: () => palette.peek().grid, width: 1 },
    ticks: { show: false },
  }
  return {
    width: Math.max(120, host.clientWidth),
    height,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: false, range: () => range() },
      y: { distr: log ? 3 : 1, ...(!log && { range: (_, low, high) => padded(low, high) }) },
    },
    axes: [
      {
        ...axis,
        size: 26,
        gap: 4,
        space: 70,
        ...(whole && { incrs: WHOLE }),
        values: (_, splits) => splits.map(xFormat),
      },
      { ...axis, size: 58, gap: 4, space: 34, values: (_, splits) => splits.map((v) => (v === null ? '' : format(v))) },
    ],
    series: [{}, ...options.lines().map((line) => seriesOf(line, options.lines().length >= MANY))],
    cursor: {
      y: false,
      drag: { x: true, y: false, setScale: false },
      // Where the pointer is, and no more: a drag that all charts heard would zoom all of them as often as there are charts.
      sync: {
        key: sync,
        setSeries: false,
        scales: ['x', null],
        filters: { pub: (type) => /^mouse(move|leave)$/.test(type), sub: () => true },
      },
      dataIdx: (plot, series, index) => nearest(plot.data[series] ?? [], index),
      points: { size: 7, width: 0, fill: (_, series) => curveColour(options.lines()[series - 1]?.colour ?? 0) },
      bind: {
        dblclick: () => () => {
          zoom.value = null
          return null
        },
      },
    },
    hooks: {
      setSelect: [
        (plot) => {
          const { left, width } = plot.select
          if (width < 4) return
          zoom.value = [plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')]
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
        },
      ],
      setCursor: [
        (plot) => {
          const { idxs, left = -1 } = plot.cursor
          if (left < 0 || !idxs) return onCursor(null)
          onCursor((line) => {
            const index = idxs[line + 1]
            return index === null || index === undefined ? null : (plot.data[line + 1]?.[index] ?? null)
          })
        },
      ],
    },
  }
}

const seriesOf = ({ colour, faint: behind, points }: Line, many: boolean): uPlot.Series => ({
  stroke: () => (behind ? faint(curveColour(colour), 0.28) : curveColour(colour)),
  width: behind || many ? 1 : 1.75,
  points: {
    show: (plot, series) => points || lone(plot.data[series] ?? []),
    size: 6,
    fill: () => palette.peek().ground,
  },
  // A null is a gap, a missing value is not: thin() tells them apart.
  spanGaps: false,
})

/** A run's first step: one value makes no line, and the chart would look empty. */
function lone(values: ArrayLike<unknown>): boolean {
  let there = 0
  for (let i = 0; i < values.length && there < 2; i++) if (values[i] !== undefined && values[i] !== null) there++
  return there === 1
}

function extent(lines: readonly Line[]): [number, number] {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (const { x } of lines) {
    if (x.length === 0) continue
    low = Math.min(low, x[0] as number)
    high = Math.max(high, x[x.length - 1] as number)
  }
  if (low > high) return [0, 1]
  return low === high ? [low - 1, high + 1] : [low, high]
}

/** A constant gets room above and below. */
function padded(low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1]
  const room = high - low < 1e-12 ? Math.abs(high) * 0.1 || 1 : 0.06 * (high - low)
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room]
}

/** Where a curve has a value closest to a place of the common axis. */
function nearest(values: ArrayLike<unknown>, index: number): number {
  const there = (i: number) => values[i] !== undefined && values[i] !== null
  for (let away = 0; away < 400; away++) {
    if (there(index - away)) return index - away
    if (there(index + away)) return index + away
  }
  return index
}

/** Arrows move through the curve (with Shift ten times as far), + and - zoom, 0 and Escape show all. */
function key(plot: uPlot, event: KeyboardEvent): void {
  const { clientWidth: width, clientHeight: height } = plot.over
  const at = (plot.cursor.left ?? -1) < 0 ? width / 2 : (plot.cursor.left as number)
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
  if (move !== undefined) {
    const left = Math.min(width, Math.max(0, at + (move * width * (event.shiftKey ? 10 : 1)) / 100))
    plot.setCursor({ left, top: height / 2 })
  } else if (event.key === '+' || event.key === '-') {
    const [from, to] = [plot.posToVal(0, 'x'), plot.posToVal(width, 'x')]
    const centre = plot.posToVal(at, 'x')
    const factor = event.key === '+' ? 0.5 : 2
    zoom.value = [centre - (centre - from) * factor, centre + (to - centre) * factor]
  } else if (event.key === '0' || event.key === 'Escape') zoom.value = null
  else return
  event.preventDefault()
}

/** A job on a terminal: what the events have told, drawn anew from time to time. */
import type { JobEvent, StatusResponse } from '@mlx-training/sdk'
import sliceAnsi from 'slice-ansi'
import { bar, sparkline } from './chart.ts'
import pc from './colours.ts'
import { count, duration, loss } from './format.ts'
import { state } from './state.ts'

/** Losses that are kept; a curve needs no more than a line has characters. */
const KEPT = 4096

export class LiveView {
  readonly #status: StatusResponse
  #losses: { step: number; loss: number }[] = []
  #total: number
  #step: Record<string, unknown> | null = null
  #held: number | null = null
  #said = ''
  #state: StatusResponse['status']

  constructor(status: StatusResponse) {
    this.#status = status
    this.#state = status.status
    this.#total = status.progress.total_steps
  }

  take({ type, data }: JobEvent): void {
    if (type === 'step') {
      this.#step = data
      if (typeof data.loss === 'number') this.#losses.push({ step: data.step as number, loss: data.loss })
      if (this.#losses.length > KEPT) this.#losses = this.#losses.filter((_, nth) => nth % 2 === 1)
    } else if (type === 'eval') this.#held = data.loss as number
    else if (type === 'state') {
      this.#state = data.state as StatusResponse['status']
      this.#said = (data.reason as string | null) ?? ''
    } else if (type === 'stage') this.#said = String(data.stage).replaceAll('_', ' ')
    else if (type === 'prepared') {
      this.#total = data.total_steps as number
      this.#said = ''
      this.#rewind(data.resumed_from_step as number)
    } else if (type === 'rollback') this.#rewind(data.step as number)
    if (typeof data.message === 'string') this.#said = data.message
  }

  /** Steps after it will come again. */
  #rewind(step: number): void {
    this.#losses = this.#losses.filter((one) => one.step <= step)
  }

  draw(columns: number): string {
    const { experiment_name, model, progress } = this.#status
    const at = (this.#step?.step as number | undefined) ?? progress.current_step
    const total = this.#total
    const share = total > 0 ? at / total : 0
    const steps = `${Math.floor(100 * share)}%  step ${count(at)}${total > 0 ? ` of ${count(total)}` : ''}`
    const room = Math.max(10, Math.min(60, columns - steps.length - 4))
    const lines = [
      `${pc.bold(experiment_name)}  ${state(this.#state)}  ${pc.dim(model)}`,
      `${pc.green(bar(share, room))} ${steps}`,
      this.#numbers(),
      this.#losses.length > 1
        ? pc.cyan(
            sparkline(
              this.#losses.map(({ loss }) => loss),
              Math.min(60, columns - 2),
            ),
          )
        : '',
      pc.dim(this.#said),
      pc.dim('Ctrl-C leaves it running'),
    ]
    // Cut to the terminal's width, so that a redraw finds as many lines as it left.
    return lines.map((line) => sliceAnsi(line, 0, columns)).join('\n')
  }

  /** What stays on the screen. */
  ended(status: StatusResponse, columns: number): string {
    this.#state = status.status
    this.#said = ''
    return this.draw(columns).split('\n').slice(0, 4).join('\n').trimEnd()
  }

  #numbers(): string {
    const { metrics, queue_position: place } = this.#status
    const step = this.#step
    if (this.#state === 'queued' && place !== null) return pc.dim(`place ${place + 1} in the queue`)
    // Before the first step there is nothing to tell.
    if (!step && metrics.tokens_per_second === 0) return ''
    const value = (key: string) => step?.[key] as number | undefined
    return [
      `loss ${loss(value('smoothed_loss') ?? metrics.smoothed_loss)}`,
      ...(this.#held === null ? [] : [`held out ${loss(this.#held)}`]),
      `${count(Math.round(value('tokens_per_second') ?? metrics.tokens_per_second))} tokens/s`,
      `${count(Math.round(value('memory_mb') ?? metrics.gpu_memory_used_mb))} MB`,
      `${duration(value('seconds_remaining') ?? this.#status.estimated_seconds_remaining)} left`,
    ].join(pc.dim('  ·  '))
  }
}

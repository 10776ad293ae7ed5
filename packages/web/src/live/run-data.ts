/**
 * All that a run has told, for drawing: made of GET /train/{name}/history and of the events after it. A step that is told
 * again takes the place of the first telling, so nothing is there twice, whatever was lost or repeated on the way.
 */
import type { HistoryResponse, JobEvent, StepColumns } from '@mlx-training/sdk'
import { Column, lowerBound } from '../charts/columns.ts'

export const METRICS = ['loss', 'learning_rate', 'grad_norm', 'tokens_per_second', 'memory_mb'] as const
export type Metric = (typeof METRICS)[number]

export interface Evaluation {
  step: number
  at: number
  loss: number
  perplexity: number
  token_accuracy: number
  best: boolean
}

export interface Sample {
  step: number
  prompt: string
  base: string
  tuned: string
}

type StepRow = Record<Metric, number | null> & { step: number; at: number }

export class RunData {
  jobId: string | null = null
  /** Of the last event that is in here. */
  last = 0
  readonly step = new Column()
  /** Milliseconds since 1970. */
  readonly at = new Column()
  readonly metrics = Object.fromEntries(METRICS.map((name) => [name, new Column()])) as Record<Metric, Column>
  evaluations: Evaluation[] = []
  samples: Sample[] = []
  /** All events but steps, oldest first. */
  events: JobEvent[] = []

  addHistory({ job_id, last_event, steps, events }: HistoryResponse): void {
    this.jobId = job_id
    let next = 0
    const stepsUntil = (id: number) => {
      while (next < steps.id.length && (steps.id[next] as number) < id) this.#addStep(rowOf(steps, next++))
    }
    for (const event of events) {
      stepsUntil(event.id)
      this.#addOther(event)
    }
    stepsUntil(Number.POSITIVE_INFINITY)
    this.last = last_event
  }

  addEvent(event: JobEvent): void {
    if (event.id <= this.last) return
    this.last = event.id
    if (event.type === 'step')
      this.#addStep({ ...(event.data as unknown as Omit<StepRow, 'at'>), at: Date.parse(event.at) })
    else this.#addOther(event)
  }

  #addStep(row: StepRow): void {
    if (row.step <= this.step.last()) this.#rewindTo(row.step - 1)
    this.step.push(row.step)
    this.at.push(row.at)
    for (const name of METRICS) this.metrics[name].push(row[name])
  }

  #addOther(event: JobEvent): void {
    this.events.push(event)
    const { type, data } = event
    if (type === 'rollback') this.#rewindTo(Number(data.step))
    if (type === 'prepared') this.#rewindTo(Number(data.resumed_from_step))
    if (type === 'eval') {
      const evaluation = { ...(data as unknown as Evaluation), at: Date.parse(event.at) }
      this.evaluations = [...this.evaluations.filter(({ step }) => step < evaluation.step), evaluation]
    }
    if (type === 'sample') {
      const sample = data as unknown as Sample
      const others = this.samples.filter(({ step, prompt }) => step !== sample.step || prompt !== sample.prompt)
      this.samples = [...others, sample]
    }
  }

  /** What came after that step is void. */
  #rewindTo(step: number): void {
    const length = lowerBound(this.step.view(), step + 1)
    for (const column of [this.step, this.at, ...Object.values(this.metrics)]) column.length = length
    this.evaluations = this.evaluations.filter((evaluation) => evaluation.step <= step)
    this.samples = this.samples.filter((sample) => sample.step <= step)
  }
}

const rowOf = (steps: StepColumns, i: number): StepRow => ({
  step: steps.step[i] as number,
  at: steps.at[i] as number,
  loss: steps.loss[i] ?? null,
  learning_rate: steps.learning_rate[i] ?? null,
  grad_norm: steps.grad_norm[i] ?? null,
  tokens_per_second: steps.tokens_per_second[i] ?? null,
  memory_mb: steps.memory_mb[i] ?? null,
})

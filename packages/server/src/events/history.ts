/** A job's history for drawing: a column for each number of its steps, and all other events as they are. */
import type { HistoryResponse, JobEvent, StepColumns } from '@mlx-training/contract'
import type { EventLog } from './port.ts'

export type History = Pick<HistoryResponse, 'last_event' | 'more' | 'steps' | 'events'>

/** Events that are read at a time: others get their turn between. */
const BATCH = 500

export async function readHistory(log: EventLog, jobId: string, after: number, limit: number): Promise<History> {
  const steps = noSteps()
  const events: JobEvent[] = []
  let last = after
  let left = limit
  while (left > 0) {
    const batch = await log.after(jobId, last, Math.min(BATCH, left))
    for (const event of batch) {
      if (event.type === 'step') addStep(steps, event)
      else events.push(event)
    }
    last = batch.at(-1)?.id ?? last
    left -= batch.length
    if (batch.length < BATCH) break
    await new Promise((resume) => setImmediate(resume))
  }
  const more = left === 0 && (await log.after(jobId, last, 1)).length > 0
  return { last_event: last, more, steps, events }
}

const NUMBERS = ['loss', 'smoothed_loss', 'learning_rate', 'grad_norm', 'tokens_per_second', 'memory_mb'] as const

function noSteps(): StepColumns {
  const none = Object.fromEntries(NUMBERS.map((name) => [name, []])) as unknown as Pick<
    StepColumns,
    (typeof NUMBERS)[number]
  >
  return { id: [], step: [], epoch: [], at: [], ...none }
}

function addStep(steps: StepColumns, { id, at, data }: JobEvent): void {
  steps.id.push(id)
  steps.at.push(Date.parse(at))
  steps.step.push(data.step as number)
  steps.epoch.push(data.epoch as number)
  for (const name of NUMBERS) steps[name].push(rounded(data[name]))
}

/** Six digits are more than any screen shows, and half of what a float32 takes as text. */
const rounded = (value: unknown) => (typeof value === 'number' ? Number(value.toPrecision(6)) : null)

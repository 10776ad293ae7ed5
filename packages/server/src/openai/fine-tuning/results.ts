/** The results file of a job: its losses by step, with the columns of OpenAI's. */
import { setImmediate } from 'node:timers/promises'
import type { EventType, JobEvent } from '@mlx-training/contract'
import type { EventLog } from '../../events/port.ts'
import type { Job } from '../../jobs/port.ts'

const HEADER = 'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy'
const TYPES: readonly EventType[] = ['prepared', 'step', 'eval', 'rollback']
const PAGE = 1000
/** Sizes of files that were listed, which ended jobs keep until they are resumed. */
const REMEMBERED = 1000

interface Row {
  train?: unknown
  valid?: unknown
  accuracy?: unknown
}

export function createResults(events: Pick<EventLog, 'after'>) {
  const sizes = new Map<string, { of: number; bytes: number }>()

  /** Steps that were gone back on are as if they had not been. Training's accuracy is not measured: its column is empty. */
  async function csv(job: Job): Promise<string> {
    const rows = new Map<number, Row>()
    for (let after = 0; ; ) {
      const page = await events.after(job.id, after, PAGE, TYPES)
      for (const event of page) apply(rows, event)
      const last = page.at(-1)
      if (!last || page.length < PAGE) break
      after = last.id
      // The store answers at once, so that nothing else would get its turn before the end of a long history.
      await setImmediate()
    }
    const lines = [...rows].sort(([a], [b]) => a - b).map(([step, row]) => line(step, row))
    return `${[HEADER, ...lines].join('\n')}\n`
  }

  return {
    csv,
    async bytes(job: Job): Promise<number> {
      const known = sizes.get(job.id)
      if (known?.of === job.lastEventId) return known.bytes
      const bytes = Buffer.byteLength(await csv(job))
      if (sizes.size >= REMEMBERED) sizes.clear()
      sizes.set(job.id, { of: job.lastEventId, bytes })
      return bytes
    },
  }
}

function apply(rows: Map<number, Row>, { type, data }: JobEvent): void {
  const step = Number(data.step ?? data.resumed_from_step)
  if (type === 'step') rows.set(step, { ...rows.get(step), train: data.loss })
  else if (type === 'eval') rows.set(step, { ...rows.get(step), valid: data.loss, accuracy: data.token_accuracy })
  else for (const later of [...rows.keys()].filter((one) => one > step)) rows.delete(later)
}

const line = (step: number, { train, valid, accuracy }: Row) =>
  [step, train ?? '', '', valid ?? '', accuracy ?? ''].join(',')

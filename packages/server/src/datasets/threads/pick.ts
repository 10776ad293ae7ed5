/** pickRows: a few rows of a file that may have errors, the good ones as a snapshot of their own. Runs on whichever thread. */
import { CODES, type Code } from '../codes.ts'
import { examine } from '../library/examine.ts'
import type { Report } from '../report.ts'
import { SnapshotWriter } from '../snapshot-writer.ts'
import type { RawRow } from '../split/row.ts'
import { type CheckTask, check, type RowTaker } from './check.ts'

export interface PickTask extends Omit<CheckTask, 'trained' | 'snapshots'> {
  snapshots: string
  samples: number[]
}

export interface PickedRows {
  report: Report
  snapshot: { path: string; sha256: string }
  /** What is wrong with those that have errors, by their numbers. */
  problems: [sample: number, message: string][]
}

export async function pickRows({ snapshots, samples, ...task }: PickTask): Promise<PickedRows> {
  const kept = new Kept(samples)
  const { report, container } = await check(task, kept)
  const { asked: format, columns, tags } = task
  const problems: PickedRows['problems'] = []
  const writer = await SnapshotWriter.create(snapshots)
  try {
    for (const [sample, { bytes, line }] of kept.rows) {
      const { conversation, issues } = examine(bytes, sample, line, { format, columns, tags }, container === 'array')
      if (conversation) writer.add(conversation, sample)
      // The report keeps the first of each kind; what is wrong with later ones is found again.
      const told = report.issues.filter((issue) => issue.sample === sample && isError(issue))
      const found = issues.filter(isError)
      const errors = told.length > 0 ? told : found.length > 0 ? found : report.issues.filter(isTooLarge).slice(0, 1)
      if (!conversation) problems.push([sample, errors.map(({ message }) => message).join('; ')])
    }
    return { report, snapshot: await writer.publish(), problems }
  } finally {
    await writer.close()
  }
}

const isError = ({ code }: { code: string }) => CODES[code as Code] === 'error'

/** All that can be wrong with a row that was not kept. */
const isTooLarge = ({ code }: { code: string }) => code === ('row_too_large' satisfies Code)

/** A row that is too large has no bytes. */
class Kept implements RowTaker {
  readonly rows = new Map<number, { bytes: Buffer; line: number }>()
  readonly #samples: ReadonlySet<number>
  #next = 0

  constructor(samples: readonly number[]) {
    this.#samples = new Set(samples)
  }

  add({ bytes, line }: RawRow): void {
    const sample = this.#next++
    // The chunk that they lie in may be used again.
    if (this.#samples.has(sample)) this.rows.set(sample, { bytes: Buffer.from(bytes ?? ''), line })
  }

  async flush(): Promise<void> {}
}

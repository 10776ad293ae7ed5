/** Mutated data sets, by the thousand: never a crash, never invalid without a reason and a place, whatever the chunks. */
import fc from 'fast-check'
import { Pass } from '../../packages/server/src/datasets/pass.ts'
import type { Report } from '../../packages/server/src/datasets/report.ts'
import { FileFault } from '../../packages/server/src/datasets/split/fault.ts'
import { mutated } from '../../packages/server/test/datasets/mutations.ts'

/** Throws fast-check's error, with a seed and the smallest file that shows it. Returns how many files were invalid. */
export function soakDatasets(
  files = 10_000,
  seed = Date.now() & 0x7fffffff,
): { files: number; invalid: number; seed: number } {
  let invalid = 0
  const sizes = fc.integer({ min: 1, max: 64 })
  fc.assert(
    fc.property(mutated, sizes, (file, size) => {
      const report = reportOn(file, file.length)
      if (JSON.stringify(reportOn(file, size)) !== JSON.stringify(report))
        throw new Error(`another report with chunks of ${size} bytes`)
      if (!report.valid) invalid++
      const problem = problemOf(report)
      if (problem) throw new Error(problem)
    }),
    { numRuns: files, seed },
  )
  return { files, invalid, seed }
}

function reportOn(file: Buffer, size: number): Report {
  const pass = new Pass({ size: file.length })
  try {
    for (let at = 0; at < file.length; at += size) pass.push(Buffer.from(file.subarray(at, at + size)))
  } catch (error) {
    if (error instanceof FileFault) return pass.end(error)
    throw error
  }
  return pass.end()
}

function problemOf({ valid, errors, issues, total_samples, valid_samples }: Report): string | null {
  if (valid !== (errors.length === 0)) return 'valid does not say what errors do'
  if (!valid && issues.length === 0) return 'invalid without a reason'
  if (valid && valid_samples !== total_samples) return 'valid with rows that are not'
  const lost = issues.find(
    ({ sample, line }) => sample !== null && (sample >= total_samples || line === null || line < 1),
  )
  return lost ? `no place: ${JSON.stringify(lost)}` : null
}

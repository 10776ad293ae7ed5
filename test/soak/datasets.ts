/** Mutated data sets, by the thousand: never a crash, never invalid without a reason and a place, whatever the chunks. */
import fc from 'fast-check'
import { Pass } from '../../packages/server/src/datasets/pass.ts'
import type { Report } from '../../packages/server/src/datasets/report.ts'
import { FileFault } from '../../packages/server/src/datasets/split/fault.ts'
import { mutated } from '../../packages/server/test/datasets/mutations.ts'
import type { Part, Standing, Task } from './part.ts'
import { randomOf } from './random.ts'

const FILES_A_TRIAL = 500

export const datasets: Part = {
  name: 'datasets',
  what: `${FILES_A_TRIAL} mutated data sets a trial: a report on each, the same whatever the chunks it is read in`,
  run: batches,
}

async function* batches({ seed, replay, trials, isOver }: Task): AsyncGenerator<Standing> {
  const random = randomOf(seed)
  const failures: { seed: number; problem: string }[] = []
  let done = 0
  let invalid = 0
  while (done < trials && !isOver()) {
    const of = replay ?? random.whole(0, 2 ** 31 - 1)
    const began = performance.now()
    let said: string
    try {
      const found = soakDatasets(FILES_A_TRIAL, of)
      invalid += found.invalid
      said = `${found.invalid} of ${found.files} files invalid, each told where and why`
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error)
      failures.push({ seed: of, problem })
      said = `FAILED\n  ${problem}`
    }
    console.log(`${++done}. seed ${of}: ${seconds(performance.now() - began)}: ${said}`)
    const text =
      `${done * FILES_A_TRIAL} mutated files, of them ${invalid} invalid: **${failures.length} trials of ${done} failed**.` +
      failures
        .map(({ seed, problem }) => `\n- \`--only datasets --replay ${seed}\`: ${problem.split('\n')[0]}`)
        .join('')
    yield {
      trials: done,
      failed: failures.length,
      text,
      data: { files: done * FILES_A_TRIAL, invalid, trials: done, failures },
    }
  }
}

const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`

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
      if (JSON.stringify(reportOn(file, file.length, () => {})) !== JSON.stringify(report))
        throw new Error('another report when all rows are read in full')
      if (!report.valid) invalid++
      const problem = problemOf(report)
      if (problem) throw new Error(problem)
    }),
    { numRuns: files, seed },
  )
  return { files, invalid, seed }
}

/** Whoever wants the rows themselves (`onGood`) gets them through JSON.parse. */
function reportOn(file: Buffer, size: number, onGood?: () => void): Report {
  const pass = new Pass({ size: file.length, onGood })
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

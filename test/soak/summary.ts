/** What a round of trials with jobs came to. */
import { FAULTS, type Fault } from './plan.ts'
import type { Outcome } from './trial.ts'

export interface Summary {
  trials: number
  failed: number
  restarts: number
  left: string[]
  faults: { fault: Fault; trials: number; hit: number; attempts: number; seconds: number; failed: number }[]
  failures: { seed: number; fault: Fault; problems: string[] }[]
}

export function summarize(outcomes: readonly Outcome[], facts: Pick<Summary, 'restarts' | 'left'>): Summary {
  const faults = FAULTS.flatMap((fault) => {
    const these = outcomes.filter(({ plan }) => plan.fault === fault)
    if (these.length === 0) return []
    const sum = (of: (outcome: Outcome) => number) => these.reduce((total, outcome) => total + of(outcome), 0)
    return {
      fault,
      trials: these.length,
      hit: sum(({ hit }) => Number(hit)),
      attempts: sum(({ attempts }) => attempts),
      seconds: sum(({ seconds }) => seconds) / these.length,
      failed: sum(({ problems }) => Number(problems.length > 0)),
    }
  })
  const failures = outcomes
    .filter(({ problems }) => problems.length > 0)
    .map(({ plan: { seed, fault }, problems }) => ({ seed, fault, problems }))
  return { ...facts, trials: outcomes.length, failed: failures.length, faults, failures }
}

/** `part`: for the command that does a trial again. */
export function toMarkdown({ trials, failed, restarts, left, faults, failures }: Summary, part: string): string {
  const rows = faults.map(
    (row) =>
      `| ${row.fault} | ${row.trials} | ${row.hit} | ${row.attempts} | ${row.seconds.toFixed(1)} | ${row.failed} |`,
  )
  const found = failures.map(
    ({ seed, fault, problems }) =>
      `- \`--only ${part} --replay ${seed}\` (${fault}): ${problems.map((text) => text.split('\n')[0]).join('; ')}`,
  )
  return [
    `${trials} trials: **${failed} failed**. ` +
      `The server was started again ${restarts} times; ${left.length} processes were left at the end.`,
    '',
    '| fault | trials | met a run | attempts | seconds each | failed |',
    '|---|--:|--:|--:|--:|--:|',
    ...rows,
    ...(found.length > 0 ? ['', ...found] : []),
  ].join('\n')
}

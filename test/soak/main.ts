/**
 * npm run test:soak -- [--trials N] [--minutes N] [--seed S] [--replay SEED] [--kills] [--summary PATH]
 *
 * Random faults on the real server and engine, one job a trial; CONTRIBUTING.md says what is checked. Ends with 1 when a
 * trial failed. `--replay` does one trial again, by the seed that was printed with it; `--kills` as npm test's short round,
 * which only kills.
 */
import { writeFileSync } from 'node:fs'
import { arch, cpus, platform } from 'node:os'
import { parseArgs } from 'node:util'
import { FAULTS, KILLS, type Moment, planOf } from './plan.ts'
import { randomOf } from './random.ts'
import { summarize, toMarkdown } from './summary.ts'
import { type Outcome, runTrial } from './trial.ts'
import { World } from './world.ts'

/** After so many the world is begun anew, on an empty disk. */
const TRIALS_A_WORLD = 40

export async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      trials: { type: 'string' },
      minutes: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      replay: { type: 'string' },
      kills: { type: 'boolean', default: false },
      summary: { type: 'string' },
    },
  })
  const seed = wholeNumber('seed', values.seed)
  const trials = values.replay ? 1 : wholeNumber('trials', values.trials ?? (values.minutes ? '100000' : '20'))
  const minutes = wholeNumber('minutes', values.minutes ?? '100000')
  const began = performance.now()
  const random = randomOf(seed)
  const outcomes: Outcome[] = []
  const left: string[] = []
  let restarts = 0
  let world: World | null = null

  const close = async () => {
    left.push(...((await world?.close()) ?? []))
    restarts += world?.restarts ?? 0
    world = null
  }
  let interrupted = false
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => (interrupted = true))

  console.log(`seed ${seed}`)
  const minutesSince = () => (performance.now() - began) / 60_000
  const write = () => {
    const facts = {
      seed,
      minutes: minutesSince(),
      machine: machine(),
      restarts: restarts + (world?.restarts ?? 0),
      left,
    }
    const summary = summarize(outcomes, facts)
    if (values.summary !== undefined) {
      writeFileSync(`${values.summary}.json`, `${JSON.stringify({ ...summary, outcomes }, null, 1)}\n`)
      writeFileSync(`${values.summary}.md`, toMarkdown(summary))
    }
    return summary
  }
  while (outcomes.length < trials && minutesSince() < minutes && !interrupted) {
    if (outcomes.length % TRIALS_A_WORLD === 0) await close()
    world ??= new World()
    const plan = planOf(
      values.replay ? wholeNumber('replay', values.replay) : random.whole(0, 2 ** 31 - 1),
      values.kills ? KILLS : FAULTS,
    )
    const outcome = await runTrial(world, plan)
    outcomes.push(outcome)
    console.log(line(outcomes.length, outcome))
    write()
  }
  await close()
  const summary = write()
  console.log(`\n${toMarkdown(summary)}`)
  return summary.failed + summary.left.length > 0 ? 1 : 0
}

function line(number: number, { plan, hit, attempts, seconds, problems }: Outcome): string {
  const what = [plan.fault, plan.variant, plan.failpoint ?? plan.moments.map(when).join(' and ')].join(', ')
  const said = problems.length === 0 ? 'ok' : `FAILED\n  ${problems.join('\n  ')}`
  return `${number}. seed ${plan.seed}: ${what}: ${hit ? '' : 'not met, '}${attempts} attempts, ${seconds.toFixed(1)} s: ${said}`
}

const when = ({ step, milliseconds }: Moment) => `${step === null ? '' : `step ${step} + `}${milliseconds} ms`

const machine = () => `${platform()} ${arch()}, ${cpus().length} cores, Node ${process.version}`

function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} must be a whole number, not "${text}"`)
  return value
}

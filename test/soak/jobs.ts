/** Random faults on the real server and engine, one job a trial; CONTRIBUTING.md says what is checked. */
import type { Part, Standing, Task } from './part.ts'
import { FAULTS, type Fault, KILLS, type Moment, planOf } from './plan.ts'
import { randomOf } from './random.ts'
import { summarize, toMarkdown } from './summary.ts'
import { type Outcome, runTrial } from './trial.ts'
import { World } from './world.ts'

/** After so many the world is begun anew, on an empty disk. */
const TRIALS_A_WORLD = 40

export const jobs: Part = {
  name: 'jobs',
  what: 'a job, a fault, and whether it comes to the same bits',
  run: (task) => rounds('jobs', task, FAULTS),
}

/** As npm test's short round. */
export const kills: Part = { name: 'kills', what: 'jobs, and only kills', run: (task) => rounds('kills', task, KILLS) }

async function* rounds(
  part: string,
  { seed, replay, trials, isOver }: Task,
  faults: readonly Fault[],
): AsyncGenerator<Standing> {
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
  const standing = (): Standing => {
    const summary = summarize(outcomes, { restarts: restarts + (world?.restarts ?? 0), left })
    return {
      trials: outcomes.length,
      failed: summary.failed + left.length,
      text: toMarkdown(summary, part),
      data: { ...summary, outcomes },
    }
  }
  try {
    while (outcomes.length < trials && !isOver()) {
      if (outcomes.length % TRIALS_A_WORLD === 0) await close()
      world ??= new World()
      const outcome = await runTrial(world, planOf(replay ?? random.whole(0, 2 ** 31 - 1), faults))
      outcomes.push(outcome)
      console.log(line(outcomes.length, outcome))
      yield standing()
    }
  } finally {
    await close()
  }
  yield standing()
}

function line(number: number, { plan, hit, attempts, seconds, problems }: Outcome): string {
  const what = [plan.fault, plan.variant, plan.failpoint ?? plan.moments.map(when).join(' and ')].join(', ')
  const said = problems.length === 0 ? 'ok' : `FAILED\n  ${problems.join('\n  ')}`
  return `${number}. seed ${plan.seed}: ${what}: ${hit ? '' : 'not met, '}${attempts} attempts, ${seconds.toFixed(1)} s: ${said}`
}

const when = ({ step, milliseconds }: Moment) => `${step === null ? '' : `step ${step} + `}${milliseconds} ms`

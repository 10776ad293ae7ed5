/** Random requests, cancels and changed adapters in the generation scheduler: every request ends, and memory stays flat. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { loadConfig, PROJECT_ROOT } from '../../packages/server/src/config.ts'
import type { Part, Standing, Task } from './part.ts'
import { randomOf } from './random.ts'

const ROUNDS = 200

export const generation: Part = {
  name: 'generation',
  what: `${12 * ROUNDS} random requests a trial, with cancels and adapters that change: memory stays flat`,
  run: trials,
}

async function* trials({ seed, replay, trials, isOver }: Task): AsyncGenerator<Standing> {
  const random = randomOf(seed)
  const failures: { seed: number; problem: string }[] = []
  let done = 0
  while (done < trials && !isOver()) {
    const of = replay ?? random.whole(0, 2 ** 31 - 1)
    let said: string
    try {
      said = await soak(of)
    } catch (error) {
      said = `FAILED\n  ${(error as Error).message}`
      failures.push({ seed: of, problem: (error as Error).message })
    }
    console.log(`${++done}. seed ${of}: ${said}`)
    const text =
      `${12 * ROUNDS * done} requests: **${failures.length} trials of ${done} failed**.` +
      failures.map(({ seed }) => `\n- \`--only generation --replay ${seed}\``).join('')
    yield { trials: done, failed: failures.length, text, data: { trials: done, failures } }
  }
}

async function soak(seed: number): Promise<string> {
  const { python, engineSource } = loadConfig({})
  const script = join(PROJECT_ROOT, 'engine', 'tests', 'serving_soak.py')
  const env = { ...process.env, PYTHONPATH: engineSource }
  const { stdout } = await promisify(execFile)(python, [script, String(seed), String(ROUNDS)], { env })
  return stdout.trim()
}

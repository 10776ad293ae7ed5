import { expect, test } from 'vitest'
import { KILLS, planOf } from '../soak/plan.ts'
import { runTrial } from '../soak/trial.ts'
import { World } from '../soak/world.ts'

const TRIALS = 20

test('jobs come to the same bits whatever is killed, 20 times', { timeout: 600_000 }, async () => {
  const first = Date.now() % 1_000_000
  console.log(`seeds ${first} to ${first + TRIALS - 1}`)
  const world = new World()
  let left: string[]
  try {
    for (let seed = first; seed < first + TRIALS; seed++) {
      const { plan, problems } = await runTrial(world, planOf(seed, KILLS))
      expect(problems, `npm run test:soak -- --only kills --replay ${seed}: ${plan.fault}`).toEqual([])
    }
  } finally {
    left = await world.close()
  }
  expect(left).toEqual([])
})

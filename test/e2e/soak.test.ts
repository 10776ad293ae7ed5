import { expect, test } from 'vitest'
import { KILLS, planOf } from '../soak/plan.ts'
import { runTrial } from '../soak/trial.ts'
import { World } from '../soak/world.ts'

/** Blows; some jobs take two or three of them. */
const AT_LEAST = 20

test('jobs come to the same bits whatever is killed, 20 times', { timeout: 600_000 }, async () => {
  const first = Date.now() % 1_000_000
  console.log(`seeds from ${first} on`)
  const world = new World()
  let left: string[]
  try {
    for (let seed = first, kills = 0; kills < AT_LEAST; seed++) {
      const { plan, problems } = await runTrial(world, planOf(seed, KILLS))
      expect(problems, `npm run test:soak -- --only kills --replay ${seed}: ${plan.fault}`).toEqual([])
      kills += plan.moments.length
    }
  } finally {
    left = await world.close()
  }
  expect(left).toEqual([])
})

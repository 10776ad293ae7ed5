/** Commands, crashes and restarts at random over real processes: no job is lost, stuck or torn. */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { ServiceError } from '@mlx-training/contract'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { ENDED } from '../../src/jobs/machine.ts'
import { isAlive, until } from '../engine/fake.ts'
import { openHouse } from './house.ts'

const JOBS = ['a', 'b', 'c', 'd']
const TRAIN = `
import random
hello()
output = command()["output_dir"]
asked = []
threading.Thread(target=lambda: asked.append(command()["type"]), daemon=True).start()
prepared()
for number in range(1, 9):
    step(number)
    time.sleep(0.01)
    if number % 3 == 0: checkpoint(number, output)
    if asked: finished({"stop": "stopped", "suspend": "suspended"}[asked[0]], number)
    if random.random() < 0.04: os.kill(os.getpid(), signal.SIGKILL)
finished()
`
const MOVES = readFileSync(new URL('../../../../docs/states.md', import.meta.url), 'utf8').split('## Moves')[1] ?? ''
const ALLOWED = new Set([...MOVES.matchAll(/^\| (\w+) \| \w+ \| (\w+) \|/gm)].map(([, from, to]) => `${from} ${to}`))

const action = fc.record({
  job: fc.constantFrom(...JOBS),
  wanted: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom('stop', 'pause', 'resume') },
    { weight: 2, arbitrary: fc.constant('kill') },
    { weight: 1, arbitrary: fc.constant('restart') },
  ),
  after: fc.integer({ min: 0, max: 60 }),
})

it('survives', { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 20, maxLength: 40 }), async (actions) => {
      let house = await openHouse({ train: TRAIN }, { maxConcurrentJobs: 2 })
      try {
        await house.runner.start()
        for (const name of JOBS) await house.submit(name)
        for (const { job, wanted, after } of actions) {
          await sleep(after)
          if (wanted === 'kill') {
            const pid = house.pids.at(-1)
            if (pid !== undefined && isAlive(pid)) process.kill(pid, 'SIGKILL')
          } else if (wanted === 'restart') {
            await house.close()
            house = await openHouse(house.fake, { maxConcurrentJobs: 2 })
            await house.runner.start()
          } else {
            await house.jobs[wanted as 'stop' | 'pause' | 'resume'](job).catch((error) => {
              expect(error instanceof ServiceError && error.code).toBe('conflict')
            })
          }
        }
        await until(async () => {
          const open = (await house.jobs.list()).filter(({ state }) => !ENDED.includes(state))
          for (const { name, state } of open) if (state === 'paused') await house.jobs.resume(name)
          return open.length === 0
        })
        expect(house.pids.filter(isAlive)).toEqual([])
        for (const job of await house.jobs.list()) {
          const history = await house.history(job)
          expect(history.map((event) => event.id)).toEqual(history.map((_, index) => index + 1))
          expect(history).toHaveLength(job.lastEventId)
          expect(history.at(-1)).toMatchObject({ type: 'end', data: { state: job.state } })
          const states = history.flatMap(({ type, data }) => (type === 'state' ? [data.state] : []))
          for (const [index, state] of states.entries())
            if (index > 0) expect(ALLOWED).toContain(`${states[index - 1]} ${state}`)
        }
      } finally {
        await house.close()
        house.fake.remove()
      }
    }),
    { numRuns: 3, endOnFailure: true },
  )
})

import { setImmediate as turn } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Followers } from '../../src/events/followers.ts'

it('wakes all of a job, once for changes that come together, and lets others have a turn meanwhile', async () => {
  const followers = new Followers()
  const woken: number[] = []
  for (let i = 0; i < 100; i++) followers.add('a', () => woken.push(i))
  followers.add('b', () => woken.push(-1))
  followers.wake('a')
  followers.wake('a')
  expect(woken).toEqual([])
  await turn()
  expect(woken.length).toBeGreaterThan(0)
  expect(woken.length).toBeLessThan(100)
  while (woken.length < 100) await turn()
  for (let i = 0; i < 5; i++) await turn()
  expect(woken).toEqual([...Array(100).keys()])
})

it('who leaves is not woken, also when it was about to be', async () => {
  const followers = new Followers()
  const woken: string[] = []
  const leave = followers.add('a', () => woken.push('left'))
  const leaveLast = followers.add('a', () => woken.push('stayed'))
  followers.wake('a')
  expect(leave()).toBe(false)
  await turn()
  await turn()
  followers.wake('a')
  await turn()
  await turn()
  expect(woken).toEqual(['stayed', 'stayed'])
  expect(leaveLast()).toBe(true)
})

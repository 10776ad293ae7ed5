import { describe, expect, it } from 'vitest'
import { Shared } from '../../src/models/share.ts'

describe('shared work', () => {
  it('waits for abandoned work to end before the same work begins again', async () => {
    const shared = new Shared<string>()
    const order: string[] = []
    let end = () => {}
    const slow = new Promise<void>((resolve) => {
      end = resolve
    })
    const leave = new AbortController()
    const first = shared.run('k', { signal: leave.signal }, async ({ signal }) => {
      order.push('first begins')
      await slow
      order.push(`first ends, aborted: ${signal.aborted}`)
      return 'first'
    })
    leave.abort(new Error('left'))
    await expect(first).rejects.toThrow('left')

    const second = shared.run('k', {}, async () => {
      order.push('second begins')
      return 'second'
    })
    const third = shared.run('k', {}, async () => 'third')
    end()
    expect(await Promise.all([second, third])).toEqual(['second', 'second'])
    expect(order).toEqual(['first begins', 'first ends, aborted: true', 'second begins'])
  })

  it('tells all the same failure, and forgets it', async () => {
    const shared = new Shared<string>()
    const fail = async () => {
      throw new Error('no')
    }
    const both = await Promise.allSettled([shared.run('k', {}, fail), shared.run('k', {}, fail)])
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect(await shared.run('k', {}, async () => 'yes')).toBe('yes')
  })

  it('does not begin for who has already left', async () => {
    const signal = AbortSignal.abort(new Error('left'))
    let begun = false
    const run = new Shared<void>().run('k', { signal }, async () => {
      begun = true
    })
    await expect(run).rejects.toThrow('left')
    expect(begun).toBe(false)
  })
})

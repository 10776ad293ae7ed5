import { expect, test } from 'vitest'
import { MlxTraining } from '../src/client.ts'
import { ConnectionError } from '../src/errors.ts'

type Answer = 'queued' | 'running' | 'completed' | 'failed' | 'gone' | 'away'

/** A client whose server gives these answers, one after the other, the last again and again. */
function clientOf(...answers: Answer[]): MlxTraining {
  return new MlxTraining({
    maxRetries: 0,
    fetch: async () => {
      const answer = answers.length > 1 ? answers.shift() : answers[0]
      if (answer === 'away') throw new TypeError('fetch failed')
      return answer === 'gone'
        ? Response.json({ detail: 'gone', status_code: 404, error_type: 'NotFoundError' }, { status: 404 })
        : Response.json({ id: 'ev_x', state: answer })
    },
  })
}

test('wait asks until an evaluation has ended, over a server that is away for a while', async () => {
  const seen: string[] = []
  const { evaluations } = clientOf('queued', 'running', 'away', 'running', 'failed')
  const ended = await evaluations.wait('ev_x', { interval: 1, onProgress: ({ state }) => seen.push(state) })
  expect(ended.state).toBe('failed')
  expect(seen).toEqual(['queued', 'running', 'running', 'failed'])
})

test('it ends when there is none, when patience is over, and when it is told to', async () => {
  await expect(clientOf('running', 'gone').evaluations.wait('ev_x', { interval: 1 })).rejects.toMatchObject({
    status: 404,
  })
  const away = clientOf('running', 'away').evaluations.wait('ev_x', { interval: 1, patience: -1 })
  await expect(away).rejects.toBeInstanceOf(ConnectionError)
  const stop = new AbortController()
  const reason = new Error('enough')
  const onProgress = () => stop.abort(reason)
  await expect(clientOf('running').evaluations.wait('ev_x', { signal: stop.signal, onProgress })).rejects.toBe(reason)
})

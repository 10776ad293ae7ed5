import { openAsBlob } from 'node:fs'
import { join } from 'node:path'
import { AuthenticationError, MlxTraining, NotFoundError, UnprocessableError } from '@mlx-training/sdk'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ALPACA, KEY, makeTinyModel, Server, workFolder } from './support.ts'

// The SDK against the real server and engine, on a tiny model.
let folder: ReturnType<typeof workFolder>
let server: Server
let client: MlxTraining

beforeAll(async () => {
  folder = workFolder()
  makeTinyModel(join(folder.path, 'tiny'))
  server = await Server.start(folder.path)
  client = new MlxTraining({ baseURL: server.url, apiKey: KEY })
}, 60_000)
afterAll(async () => {
  await server.stop()
  folder.remove()
}, 60_000)

test('follows a job through a kill of the server, every event once, and streams what it learned', async () => {
  const data = await client.datasets.upload(await openAsBlob(ALPACA), { name: 'service.json' })
  expect(data).toMatchObject({ name: 'service.json', report: { valid: true, format: 'alpaca' } })
  const started = await client.train.start({
    experiment_name: 'followed',
    model_name: './tiny',
    epochs: 1000,
    max_steps: 30,
    save_steps: 5,
    lora: { use_lora: true, lora_r: 4, lora_dropout: 0 },
    dataset: { dataset_path: data.id, batch_size: 2, max_seq_length: 64 },
  })
  expect(started.status).toBe('started')

  const ids: number[] = []
  let killed = false
  const { port } = new URL(server.url)
  const ended = await client.train.wait('followed', {
    onEvent: ({ id, type, data }) => {
      ids.push(id)
      if (killed || type !== 'step' || Number(data.step) < 7) return
      killed = true
      void server.kill('SIGKILL').then(async () => {
        server = await Server.start(folder.path, { PORT: port })
      })
    },
  })
  expect(ended).toMatchObject({ status: 'completed', progress: { current_step: 30 } })
  expect(ended.attempt).toBe(2)
  expect(ids).toEqual(Array.from(ids, (_, nth) => nth + 1))

  const request = { model: 'fine-tuned/followed', prompt: 'Hello', max_tokens: 8, temperature: 0 }
  const whole = await client.generate(request)
  const answer = client.generate.stream(request)
  expect(await answer.text()).toBe(whole.text)
  expect(answer.end).toMatchObject({ usage: { completion_tokens: whole.tokens_generated } })
  expect((await client.train.list()).training_jobs[0]?.experiment_name).toBe('followed')
}, 240_000)

test('errors are of their classes and say what to do', async () => {
  await expect(client.train.status('nobody')).rejects.toBeInstanceOf(NotFoundError)
  const stranger = new MlxTraining({ baseURL: server.url, apiKey: 'wrong' })
  await expect(stranger.train.list()).rejects.toBeInstanceOf(AuthenticationError)
  const wrong = await client.train
    .start({ experiment_name: 'x', model_name: './tiny', epochs: 0, dataset: { dataset_path: ALPACA } })
    .catch((error) => error)
  expect(wrong).toBeInstanceOf(UnprocessableError)
  expect(wrong.errors).toMatchObject([{ field: 'epochs' }])
  expect(wrong.requestId).not.toBe(null)
})

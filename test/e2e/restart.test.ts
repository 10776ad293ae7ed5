import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { GenerateResponse, ListResponse } from '@mlx-training/contract'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ALPACA, makeTinyModel, Server, workFolder } from './support.ts'

// Stops, kills and restarts of real processes on a tiny model.
let folder: ReturnType<typeof workFolder>
let server: Server

beforeEach(async () => {
  folder = workFolder()
  makeTinyModel(join(folder.path, 'tiny'))
  server = await Server.start(folder.path)
}, 60_000)
afterEach(async () => {
  await server.stop()
  folder.remove()
}, 60_000)

const start = (name: string, options: Record<string, unknown> = {}) =>
  server.request('POST', '/train/start', {
    experiment_name: name,
    model_name: './tiny',
    epochs: 1000,
    save_steps: 5,
    lora: { use_lora: true, lora_r: 4, lora_alpha: 8, lora_dropout: 0.1 },
    dataset: { dataset_path: ALPACA, batch_size: 2, max_seq_length: 64 },
    ...options,
  })

const losses = async (name: string) =>
  new Map((await server.events(name)).filter(({ type }) => type === 'step').map(({ data }) => [data.step, data.loss]))

test('stop ends within 5 s with an adapter that answers', async () => {
  await start('one')
  await server.until('one', (now) => now.progress.current_step >= 3)
  const asked = Date.now()
  expect(await server.request('POST', '/train/one/stop')).toMatchObject({
    status: 200,
    body: { status: 'stopping' },
  })
  await server.until('one', (now) => now.status === 'stopped')
  expect(Date.now() - asked).toBeLessThan(5500)
  expect(existsSync(join(folder.path, 'outputs', 'one', 'adapters.safetensors'))).toBe(true)
  const answer = await server.request<GenerateResponse>('POST', '/generate', {
    prompt: 'Hello',
    model: 'fine-tuned/one',
    max_tokens: 4,
  })
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  expect(await server.request('POST', '/train/one/stop')).toMatchObject({
    status: 409,
  })
}, 120_000)

test('pause frees the engine, resume goes on where it was', async () => {
  await start('one')
  await server.until('one', (now) => now.progress.current_step >= 3)
  expect((await server.request('POST', '/train/one/pause')).status).toBe(200)
  const paused = await server.until('one', (now) => now.status === 'paused', 20)
  expect((await server.request('POST', '/train/one/resume')).status).toBe(200)
  const running = await server.until('one', (now) => now.progress.current_step > paused.progress.current_step)
  expect(running.status).toBe('running')
  await server.request('POST', '/train/one/stop')
  await server.until('one', (now) => now.status === 'stopped', 20)
}, 120_000)

test('after kill -9 nothing is forgotten: history stands, queued jobs run, the interrupted one equals an uninterrupted run', async () => {
  await start('whole', { max_steps: 40 })
  await server.until('whole', (now) => now.status === 'completed')
  const whole = await losses('whole')

  await start('torn', { max_steps: 40 })
  await start('waiting', { max_steps: 2 })
  await server.until('torn', (now) => now.progress.current_step >= 12)
  await server.kill('SIGKILL')
  server = await Server.start(folder.path)

  expect((await server.status('whole')).status).toBe('completed')
  const done = await server.until('torn', (now) => now.status === 'completed')
  expect(done.attempt).toBe(2)
  // Steps after the last checkpoint were done twice: the later frames stand, and all are those of the uninterrupted run.
  expect(await losses('torn')).toEqual(whole)
  await server.until('waiting', (now) => now.status === 'completed')
  const { body } = await server.request<ListResponse>('GET', '/train')
  expect(body.training_jobs.map(({ experiment_name, status }) => [experiment_name, status])).toEqual([
    ['waiting', 'completed'],
    ['torn', 'completed'],
    ['whole', 'completed'],
  ])
}, 240_000)

test('SIGTERM suspends the running job, the next start continues it', async () => {
  await start('one', { max_steps: 400, save_steps: 100_000 })
  const before = await server.until('one', (now) => now.progress.current_step >= 3)
  expect(await server.stop()).toBe(0)
  server = await Server.start(folder.path)
  const after = await server.until('one', (now) => now.status === 'running' && now.progress.current_step > 0)
  expect(after.progress.current_step).toBeGreaterThanOrEqual(before.progress.current_step)
  const prepared = (
    await server.events('one', 0, (event) => event.type === 'prepared' && event.data.resumed_from_step !== 0)
  ).at(-1)
  expect(prepared?.data.resumed_from_step).toBeGreaterThanOrEqual(before.progress.current_step)
}, 120_000)

test('full fine-tuning gives a model folder that generates', async () => {
  await start('full', { max_steps: 3, lora: { use_lora: false } })
  const done = await server.until('full', (now) => now.status === 'completed')
  expect(done.lora_details).toMatchObject({
    enabled: false,
    rank: 0,
    trainable_percentage: 100,
  })
  const answer = await server.request<GenerateResponse>('POST', '/generate', {
    prompt: 'Hello',
    model: 'fine-tuned/full',
    max_tokens: 4,
  })
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
}, 120_000)

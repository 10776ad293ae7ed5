import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DeleteResponse, GenerateResponse, ListResponse, StartResponse } from '@mlx-training/contract'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ALPACA, KEY, makeTinyModel, Server, workFolder } from './support.ts'

// Experiments that come, follow from one another and go, on real processes, which are killed where it would hurt.
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

const request = (name: string, options: Record<string, unknown> = {}) => ({
  experiment_name: name,
  model_name: './tiny',
  max_steps: 2,
  lora: { use_lora: true, lora_r: 4, lora_alpha: 8, lora_dropout: 0 },
  dataset: { dataset_path: ALPACA, batch_size: 2, max_seq_length: 64 },
  ...options,
})
const start = (name: string, options: Record<string, unknown> = {}) =>
  server.request<StartResponse>('POST', '/train/start', request(name, options))
const ends = (name: string) => server.until(name, ({ status }) => status === 'completed')
const restart = async (failpoints = '') => {
  await server.stop()
  server = await Server.start(folder.path, failpoints ? { MLX_TRAINING_FAILPOINTS: failpoints } : {})
}
const inHome = (...parts: string[]) => join(folder.path, 'home', ...parts)

test('deleted, killed at any point on the way, restarted: nothing of an experiment is left, and what is not its own stays', async () => {
  const places = [
    'removal.noted=kill',
    'removal.file=kill',
    'removal.file@4=kill',
    'removal.file@9=kill',
    'removal.done=kill',
  ]
  const names = places.map((_, index) => `e${index}`)
  for (const name of names) await start(name)
  await ends('e4')
  const jobs = await Promise.all(names.map(async (name) => (await server.status(name)).job_id))
  for (const [index, name] of names.entries()) {
    const output = join(folder.path, 'outputs', name)
    expect(readdirSync(output)).toContain('adapters.safetensors')
    writeFileSync(join(output, 'notes.txt'), 'mine')
    await restart(places[index])
    await expect(server.request('DELETE', `/train/${name}`)).rejects.toThrow()
    await restart()
    expect((await server.request('GET', `/train/${name}/status`)).status).toBe(404)
    expect(readdirSync(output)).toEqual(['notes.txt'])
    expect(existsSync(inHome('runs', jobs[index] ?? ''))).toBe(false)
    // The next experiments use the same data.
    expect(readdirSync(inHome('snapshots'))).toHaveLength(index === names.length - 1 ? 0 : 1)
  }
}, 240_000)

test('killed between the job and its answer: the same request gets that answer, and there is one job', async () => {
  await restart('job.accepted=kill')
  const headers = { 'X-API-Key': KEY, 'Idempotency-Key': 'once' }
  const send = () => server.request<StartResponse>('POST', '/train/start', request('a'), headers)
  await expect(send()).rejects.toThrow()
  await restart()
  const { status, body } = await send()
  expect(status).toBe(200)
  expect(body.job_id).toBe((await server.status('a')).job_id)
  expect((await server.request<ListResponse>('GET', '/train')).body.training_jobs).toHaveLength(1)
  await ends('a')
}, 120_000)

test('the next begins with the weights of the last, which may be deleted while generation holds it', async () => {
  await start('first', { max_steps: 20, learning_rate: 1e-2 })
  await ends('first')
  await start('next', { resume_from: 'first', max_steps: 3, learning_rate: 1e-2 })
  const generate = (model: string) =>
    server.request<GenerateResponse>('POST', '/generate', { prompt: 'Hi', model, max_tokens: 4, temperature: 0 })
  expect((await generate('fine-tuned/first')).status).toBe(200)
  const { status, body } = await server.request<DeleteResponse>('DELETE', '/train/first')
  expect(status).toBe(200)
  expect(body).toEqual({ experiment_name: 'first', deleted: true, message: 'Deleted, with all of its files' })
  expect(existsSync(join(folder.path, 'outputs', 'first'))).toBe(false)
  expect((await generate('fine-tuned/first')).status).toBe(404)
  await ends('next')
  const losses = async (name: string) =>
    (await server.events(name)).filter(({ type }) => type === 'step').map(({ data }) => Number(data.loss))
  await start('fresh', { max_steps: 3, learning_rate: 1e-2 })
  await ends('fresh')
  expect((await losses('next'))[0]).toBeLessThan(((await losses('fresh'))[0] ?? 0) * 0.9)
  expect((await generate('fine-tuned/next')).status).toBe(200)
}, 180_000)

test('overwrite leaves nothing of the old run in the folder but what was never its own', async () => {
  await start('a', { max_steps: 6, save_steps: 2 })
  await ends('a')
  const output = join(folder.path, 'outputs', 'a')
  writeFileSync(join(output, 'notes.txt'), 'mine')
  const old = (await server.status('a')).job_id
  expect((await start('a', { overwrite: true, max_steps: 1 })).status).toBe(200)
  await ends('a')
  expect(readdirSync(join(output, 'checkpoints'))).toEqual(['step-00000001'])
  expect(existsSync(join(output, 'notes.txt'))).toBe(true)
  expect(existsSync(inHome('runs', old))).toBe(false)
}, 120_000)

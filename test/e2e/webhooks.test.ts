import { statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openReceiver, type Receiver } from '../../packages/server/test/webhooks/receiver.ts'
import { ALPACA, makeTinyModel, Server, workFolder } from './support.ts'

let folder: ReturnType<typeof workFolder>
let server: Server
let receiver: Receiver | null = null
beforeEach(() => {
  folder = workFolder()
  makeTinyModel(join(folder.path, 'tiny'))
}, 60_000)
afterEach(async () => {
  await server.stop()
  await receiver?.close()
  folder.remove()
}, 60_000)

const until = async (holds: () => boolean) => {
  while (!holds()) await new Promise((resume) => setTimeout(resume, 50))
}

test('the end of a job is told although the server is killed before the receiver takes it', async () => {
  // A port without a receiver: found by opening one and closing it again.
  const probe = await openReceiver()
  await probe.close()
  const env = { MLX_TRAINING_WEBHOOK_URLS: `${probe.url}/hook` }
  server = await Server.start(folder.path, env)
  await until(() => server.output.some((line) => line.includes('Webhook secret')))
  const secret = /shown only now.*: (whsec_\S+)$/.exec(server.output.find((line) => line.includes('whsec_')) ?? '')?.[1]
  expect(statSync(join(folder.path, 'home', 'webhook.secret')).mode & 0o777).toBe(0o600)

  await server.request('POST', '/train/start', {
    experiment_name: 'told',
    model_name: './tiny',
    max_steps: 2,
    lora: { use_lora: true, lora_r: 4, lora_alpha: 8 },
    dataset: { dataset_path: ALPACA, batch_size: 2, max_seq_length: 64 },
  })
  await server.until('told', ({ status }) => status === 'completed')
  await until(() => server.output.some((line) => line.includes('webhook not delivered')))
  const lines = server.output.filter((line) => line.includes('webhook not delivered')).map((line) => JSON.parse(line))
  expect(lines[0]).toMatchObject({ msg: expect.stringContaining('ECONNREFUSED'), attempt: 1, status: null })
  await server.kill('SIGKILL')

  receiver = await openReceiver(Number(new URL(probe.url).port), secret)
  // Received, but killed before the answer: at least once means once more.
  receiver.answer = () => undefined
  server = await Server.start(folder.path, env)
  const { received } = receiver
  await until(() => received.length === 1)
  await server.kill('SIGKILL')
  receiver.answer = () => 200
  server = await Server.start(folder.path, env)
  await until(() => server.output.some((line) => line.includes('webhook delivered')))
  expect(server.output.join('\n')).not.toContain('whsec_')
  expect(receiver.refused).toEqual([])
  expect(new Set(received.map(({ id }) => id))).toEqual(new Set([lines[0].webhook_id]))
  expect(received.at(-1)).toMatchObject({
    path: '/hook',
    payload: {
      type: 'training.job.succeeded',
      data: { experiment_name: 'told', model: 'fine-tuned/told', current_step: 2, loss: expect.any(Number) },
    },
  })
}, 180_000)

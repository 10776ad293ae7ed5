import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ListResponse, LoraParams, type StatusResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { differences, documentedEndpoints, documentedLoraDefaults, documentedWorkflows } from './contract-document.ts'
import { ALPACA, KEY, makeTinyModel, Server, workFolder } from './support.ts'

// Every example of docs/api-contract.md, replayed against the real server and engine. The models that it names are tiny
// random ones of the same architectures here, in the hub cache's layout; the data set is the project's own.
const folder = workFolder()
let server: Server
const endpoints = documentedEndpoints()
const endpoint = (title: string) => {
  const found = endpoints.find((one) => one.title.includes(title))
  if (!found) throw new Error(`${title} is not documented`)
  return found
}

function cachedModel(id: string, options: Record<string, unknown>): void {
  const repository = join(folder.path, 'hub', `models--${id.replace('/', '--')}`)
  const revision = '0123456789abcdef0123456789abcdef01234567'
  mkdirSync(join(repository, 'refs'), { recursive: true })
  writeFileSync(join(repository, 'refs', 'main'), revision)
  makeTinyModel(join(repository, 'snapshots', revision), options)
}

beforeAll(async () => {
  cachedModel('mlx-community/Qwen2.5-1.5B-4bit', {
    model_type: 'qwen2',
    quantized: true,
  })
  cachedModel('mlx-community/Llama-3-8B', { model_type: 'llama' })
  // The examples train for epochs, so that a few rows do.
  const rows = JSON.stringify(JSON.parse(readFileSync(ALPACA, 'utf8')).slice(0, 16))
  for (const name of ['dataset.json', 'alpaca_data.json', 'large_dataset.json'])
    writeFileSync(join(folder.path, name), rows)
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

/** The document's placeholder folder, moved to where this test may write. */
const here = <T>(body: T): T => JSON.parse(JSON.stringify(body).replaceAll('/path/to/', `${folder.path}/`))

describe('every endpoint answers as printed', () => {
  test('the document has its eight endpoints', () => {
    expect(endpoints.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'GET /health',
      'POST /train/start',
      'GET /train/{experiment_name}/status',
      'GET /train',
      'POST /train/{experiment_name}/stop',
      'POST /datasets/validate',
      'POST /generate',
      'GET /providers',
    ])
  })

  test('1. health', async () => {
    const { status, body } = await server.request('GET', '/health', undefined, {})
    expect(status).toBe(200)
    expect(differences(endpoint('Health Check').response, body)).toEqual([])
    expect(body).toMatchObject({
      service: 'mlx-distributed-training',
      version: '1.0.0',
      features: {
        lora: true,
        qlora: true,
        dataset_formats: ['alpaca', 'sharegpt'],
      },
    })
  })

  test('2. start, 3. status, 4. list, 7. generate', async () => {
    const start = endpoint('Start Training Job')
    const { status, body } = await server.request('POST', '/train/start', here(start.request))
    expect(status, JSON.stringify(body)).toBe(200)
    expect(differences(start.response, body)).toEqual([])
    expect(body).toMatchObject({
      experiment_name: 'my_lora_experiment',
      status: 'started',
      lora_enabled: true,
    })

    const running = await server.until('my_lora_experiment', (now) => now.progress.current_step > 0)
    expect(differences(endpoint('Get Training Status').response, running)).toEqual([])
    expect(running.lora_details).toMatchObject({
      enabled: true,
      rank: 8,
      alpha: 16,
    })
    const done = await server.until('my_lora_experiment', (now) => now.status === 'completed')
    expect(done.progress).toMatchObject({
      current_epoch: 3,
      total_epochs: 3,
      percentage: 100,
    })
    expect(done.progress.current_step).toBe(done.progress.total_steps)
    expect(done.dataset_details.processed_samples).toBe(3 * done.dataset_details.total_samples)

    const list = await server.request<ListResponse>('GET', '/train')
    expect(differences(endpoint('List Training Jobs').response, list.body)).toEqual([])
    const completed = list.body.training_jobs.find((job) => job.status === 'completed')
    const printed = (endpoint('List Training Jobs').response.training_jobs as unknown[])[1]
    expect(differences(printed, completed)).toEqual([])

    const generate = endpoint('Generate Text')
    const text = await server.request('POST', '/generate', generate.request, {})
    expect(text.status, JSON.stringify(text.body)).toBe(200)
    expect(differences(generate.response, text.body)).toEqual([])
    expect(text.body).toMatchObject({
      model: 'fine-tuned/my_lora_experiment',
      provider: 'LocalMLXProvider',
    })
  }, 180_000)

  test('5. stop', async () => {
    const request = {
      ...here(endpoint('Start Training Job').request),
      experiment_name: 'to_stop',
      output_dir: './outputs/to_stop',
      epochs: 1000,
    }
    await server.request('POST', '/train/start', request)
    await server.until('to_stop', (now) => now.progress.current_step > 0)
    const stop = endpoint('Stop Training Job')
    const { status, body } = await server.request('POST', '/train/to_stop/stop')
    expect(status).toBe(200)
    expect(differences(stop.response, body)).toEqual([])
    expect(body).toMatchObject({
      experiment_name: 'to_stop',
      status: 'stopping',
      message: stop.response.message,
    })
    await server.until('to_stop', (now) => now.status === 'stopped', 15)
  }, 120_000)

  test('6. validate', async () => {
    const validate = endpoint('Validate Dataset')
    const { status, body } = await server.request('POST', '/datasets/validate', here(validate.request), {})
    expect(status).toBe(200)
    expect(differences(validate.response, body)).toEqual([])
  })

  test('8. providers', async () => {
    const { body } = await server.request('GET', '/providers', undefined, {})
    expect(differences(endpoint('List Providers').response, body)).toEqual([])
    const names = (value: unknown) =>
      (
        value as {
          current_provider: { available_providers: { name: string }[] }
        }
      ).current_provider.available_providers.map(({ name }) => name)
    expect(names(body)).toEqual(names(endpoint('List Providers').response))
  })

  test('endpoints that print "Authentication: Required" refuse a call without a key, and only they', async () => {
    for (const { method, path, authentication, request } of endpoints) {
      const answer = await server.request(
        method,
        path.replace('{experiment_name}', 'nobody'),
        request ? here(request) : undefined,
        {},
      )
      if (authentication === 'Required')
        expect(answer, path).toMatchObject({
          status: 401,
          body: { status_code: 401, error_type: 'AuthenticationError' },
        })
      else expect(answer.status, path).not.toBe(401)
    }
  })
})

test('the LoRA table prints the defaults that the schema fills in', () => {
  const defaults = Object.fromEntries(
    Object.entries(LoraParams.properties).map(([name, schema]) => [
      name,
      (schema as unknown as { default: unknown }).default,
    ]),
  )
  expect(defaults).toMatchObject(documentedLoraDefaults()) // beside which the schema has fields of its own
})

describe('the example workflows run as curl commands', () => {
  for (const [index, { title, commands }] of documentedWorkflows().entries())
    test(title, async () => {
      // The first workflow's monitor step is followed by use of the model: wait for the job to end between the two.
      const experiment = ['alpaca_lora', 'qlora_efficient'][index] ?? ''
      expect(commands.length).toBeGreaterThan(0)
      for (const { comment, curl } of commands) {
        if (curl.includes('/generate'))
          await server.until(experiment, (now: StatusResponse) => now.status === 'completed', 240)
        const script = curl.replaceAll('http://localhost:8200', server.url)
        const output = execFileSync('bash', ['-c', script.replace(/^curl /, 'curl -sS -w "\\n%{http_code}" ')], {
          encoding: 'utf8',
          cwd: folder.path,
        })
        const [body, status] = output.split(/\n(?=\d+$)/)
        expect(status?.trim(), `${comment} ${body}`).toBe('200')
        expect(JSON.parse(body ?? ''), comment).not.toHaveProperty('error_type')
      }
      await server.until(experiment, (now) => now.status === 'completed', 240)
    }, 300_000)
})

test('the documented error shape and codes', async () => {
  const shape = (status: number) => ({
    status,
    body: {
      status_code: status,
      detail: expect.any(String),
      error_type: expect.any(String),
    },
  })
  const start = here(endpoint('Start Training Job').request)
  expect(await server.request('GET', '/train/nobody/status')).toMatchObject(shape(404))
  expect(await server.request('GET', '/train', undefined, { 'X-API-Key': 'wrong' })).toMatchObject(shape(401))
  expect(await server.request('POST', '/train/start', { ...start, epochs: 'three' })).toMatchObject(shape(422))
  expect(await server.request('GET', '/no/such/route')).toMatchObject(shape(404))
  expect(await server.request('DELETE', '/health')).toMatchObject(shape(405))
  const malformed = await fetch(`${server.url}/train/start`, {
    method: 'POST',
    headers: { 'X-API-Key': KEY, 'Content-Type': 'application/json' },
    body: '{"a":',
  })
  expect({
    status: malformed.status,
    body: await malformed.json(),
  }).toMatchObject(shape(400))
  const large = await server.request('POST', '/datasets/validate', {
    file_path: 'x'.repeat(2_000_000),
  })
  expect(large).toMatchObject(shape(413))
})

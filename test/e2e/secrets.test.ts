import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server as HttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { GenerateResponse, StartResponse } from '@mlx-training/contract'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { enginesOf } from '../../packages/server/src/engine/orphans.ts'
import { makeTinyModel, Server, workFolder } from './support.ts'

// What must stay between a client, a provider and the data: nothing of it may be in a log or a metric, and of keys and
// secrets nothing in any answer.
const KEYS = {
  admin: 'mark-admin-4f0c9e2a71',
  wrong: 'mark-wrong-83b1d07c55',
  openai: 'mark-openai-19ac7be240',
  hub: 'mark-hub-c05d6e8f13',
  webhookPath: 'mark-hook-7e21f4a90b',
  webhookSecret: `whsec_${Buffer.from('mark-whsec-52d8e1c3f06b9a74').toString('base64')}`,
}
const TEXTS = {
  prompt: 'marked prompt quokka',
  system: 'marked system wombat',
  hosted: 'marked hosted numbat',
  completion: 'marked completion bilby',
  row: 'marked instruction dunnart',
  answer: 'marked output potoroo',
  sample: 'marked sample bandicoot',
  malformed: 'marked malformed quoll',
}

let folder: ReturnType<typeof workFolder>
let provider: HttpServer
let server: Server
/** Everything that was answered, as text. */
let answers: string[]

/** A provider that answers one model and quotes prompt and key in each error of the others. */
async function openProvider(): Promise<HttpServer> {
  const http = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const status = /"model":"fails-(\d+)"/.exec(body)?.[1]
    const answer = status
      ? { error: { message: `Could not do "${TEXTS.hosted}" with ${request.headers.authorization}`, code: body } }
      : {
          id: 'chat-1',
          object: 'chat.completion',
          model: 'works',
          choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: TEXTS.completion } }],
          usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6 },
        }
    response.writeHead(Number(status ?? 200), { 'content-type': 'application/json', 'x-should-retry': 'false' })
    response.end(JSON.stringify(answer))
  })
  await new Promise<void>((listening) => http.listen(0, '127.0.0.1', listening))
  return http
}

beforeEach(async () => {
  folder = workFolder()
  answers = []
  makeTinyModel(join(folder.path, 'tiny'))
  provider = await openProvider()
  const url = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`
  server = await Server.start(folder.path, {
    LOG_LEVEL: 'trace',
    MLX_TRAINING_API_KEY: KEYS.admin,
    OPENAI_API_KEY: KEYS.openai,
    OPENAI_BASE_URL: url,
    HF_TOKEN: KEYS.hub,
    // It answers 200 to anything, then nothing at all.
    MLX_TRAINING_WEBHOOK_URLS: `${url}/${KEYS.webhookPath},http://127.0.0.1:1/${KEYS.webhookPath}`,
    MLX_TRAINING_WEBHOOK_SECRET: KEYS.webhookSecret,
  })
}, 60_000)
afterEach(async () => {
  await server.stop()
  await new Promise((closed) => {
    provider.close(closed)
    provider.closeAllConnections()
  })
  folder.remove()
}, 60_000)

async function ask(method: string, path: string, body?: unknown, key = KEYS.admin) {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const response = await fetch(server.url + path, {
    method,
    headers: { 'X-API-Key': key, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
    ...(body !== undefined && { body: text }),
  })
  const answer = await response.text()
  answers.push(answer)
  return { status: response.status, text: answer, body: parsed(answer) }
}

async function ends(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resume) => setTimeout(resume, 50))
}

const parsed = (text: string) => (text.startsWith('{') ? JSON.parse(text) : {})

/** All files below a folder that are logs, and what they hold. */
function logs(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.log(\.\d+)?$/.test(name))
    .map((name) => readFileSync(join(path, name), 'utf8'))
}

test('prompts, completions, keys and secrets are in no log and no metric, keys and secrets in no answer', async () => {
  const generate = (options: object) => ask('POST', '/generate', { max_tokens: 12, temperature: 0, ...options })
  const own: string[] = []
  for (const options of [
    { prompt: TEXTS.prompt, system: TEXTS.system },
    { prompt: TEXTS.prompt, n: 2, logprobs: true },
  ]) {
    const { status, body } = await generate({ model: './tiny', ...options })
    expect(status).toBe(200)
    own.push((body as unknown as GenerateResponse).text)
  }
  expect((await generate({ model: './tiny', prompt: TEXTS.prompt, stream: true })).status).toBe(200)
  const messages = [{ role: 'user', content: TEXTS.prompt }]
  const chat = { model: './tiny', messages, max_tokens: 12, temperature: 0 }
  expect((await ask('POST', '/v1/chat/completions', chat)).status).toBe(200)
  const compared = { models: ['./tiny'], prompt: TEXTS.prompt, max_tokens: 4 }
  expect((await ask('POST', '/compare', compared)).status).toBe(200)

  // A crash brings a log of the engine's along, with the stacks of all threads.
  for (const { pid, commandLine } of await enginesOf(join(folder.path, 'home')))
    if (commandLine.includes('mlx_engine.serve')) process.kill(pid, 'SIGABRT')
  await ends(() => server.output.some((line) => line.includes('generation process ended')))

  const hosted = { provider: 'openai', prompt: TEXTS.hosted }
  expect((await generate({ ...hosted, model: 'works' })).text).toContain(TEXTS.completion)
  const failures = [400, 401, 403, 404, 429, 500, 503, 529]
  const statuses = []
  for (const status of failures) statuses.push((await generate({ ...hosted, model: `fails-${status}` })).status)
  expect(statuses.every((status) => status >= 400)).toBe(true)

  // Refused: wrong types, no JSON, wrong keys, keys and prompts where they do not belong.
  await generate({ model: './tiny', prompt: [TEXTS.prompt] })
  await generate({ model: './tiny', messages: [{ role: TEXTS.prompt, content: TEXTS.prompt }] })
  await generate({ model: TEXTS.prompt, prompt: TEXTS.prompt })
  await ask('POST', '/generate', `{"prompt": "${TEXTS.malformed}"`)
  expect((await ask('GET', '/train', undefined, KEYS.wrong)).status).toBe(401)
  await ask('GET', `/train?key=${KEYS.wrong}&prompt=${encodeURIComponent(TEXTS.prompt)}`)

  const rows = Array.from({ length: 6 }, (_, i) => ({
    instruction: `${TEXTS.row} ${i}`,
    input: '',
    output: `${TEXTS.answer} ${i}`,
  }))
  writeFileSync(join(folder.path, 'rows.json'), JSON.stringify(rows))
  writeFileSync(join(folder.path, 'bad.json'), JSON.stringify([{ instruction: TEXTS.row, output: 3 }, TEXTS.answer]))
  await ask('POST', '/datasets/validate', { file_path: './bad.json' })
  await ask('POST', '/datasets/validate', { file_path: './rows.json', model_name: './tiny' })
  const start = (name: string, data: string) =>
    ask('POST', '/train/start', {
      experiment_name: name,
      model_name: './tiny',
      max_steps: 3,
      lora: { use_lora: true, lora_r: 4, lora_alpha: 8 },
      dataset: { dataset_path: data, batch_size: 2, max_seq_length: 64 },
      sample_prompts: [TEXTS.sample],
    })
  expect((await start('bad', './bad.json')).status).toBe(400)
  const { status, body } = await start('good', './rows.json')
  expect(status).toBe(200)
  expect((await ask('GET', '/train/good/events')).text).toContain('"state":"completed"')
  await ask('GET', '/train/good/status')
  await ends(() => server.output.some((line) => line.includes('webhook not delivered')))
  for (const path of ['/health', '/ready', '/providers', '/models', '/train', '/openapi.json']) await ask('GET', path)
  const metrics = (await ask('GET', '/metrics')).text
  await server.stop()

  const logged = [server.output.join('\n'), ...logs(folder.path)]
  expect(logged.slice(1).join()).toContain('Fatal Python error')
  expect(logged[0]).toContain((body as unknown as StartResponse).job_id)
  expect(own.every((text) => text.length > 8)).toBe(true)
  const completions = Object.fromEntries(own.map((text, i) => [`completion ${i}`, text]))
  for (const [name, marker] of Object.entries({ ...TEXTS, ...completions, ...KEYS }))
    for (const text of [...logged, metrics]) expect(find(text, marker), name).toBeNull()
  for (const [name, marker] of Object.entries(KEYS))
    for (const text of answers) expect(find(text, marker), name).toBeNull()
}, 180_000)

/** The line that has it, whole or as it stands within JSON. */
function find(text: string, marker: string): string | null {
  const forms = [marker, JSON.stringify(marker).slice(1, -1), encodeURIComponent(marker)]
  return text.split('\n').find((line) => forms.some((form) => line.includes(form))) ?? null
}

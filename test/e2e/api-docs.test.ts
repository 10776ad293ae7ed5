import { execFile } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ROUTES, type RouteName } from '@mlx-training/contract'
import { MlxTraining } from '@mlx-training/sdk'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { contractErrors } from '../../packages/server/test/http/service.ts'
import { API_EXAMPLES, type Given, SHOWN } from '../api-docs/examples.ts'
import { snippetsOf } from '../api-docs/snippets.ts'
import { KEY, makeTinyModel, PYTHON, ROOT, Server, workFolder } from './support.ts'

// Every example of docs/api.md, in its order, against one server with the real engine. What an example needs is put there
// first; a tiny model and fewer steps stand for those that are printed, and real ids for those that are shown.
const run = promisify(execFile)
const folder = workFolder()
const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (...given: unknown[]) => Promise<void>
const names = Object.keys(ROUTES) as RouteName[]
let server: Server
let client: MlxTraining
let openai: OpenAI

beforeAll(async () => {
  makeTinyModel(join(folder.path, 'tiny'))
  fs.cpSync(join(ROOT, 'examples'), join(folder.path, 'examples'), { recursive: true })
  server = await Server.start(folder.path)
  client = new MlxTraining({ baseURL: server.url, apiKey: KEY })
  openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: KEY, maxRetries: 0 })
  // GET /ready is among them.
  await vi.waitFor(async () => expect(await server.request('GET', '/ready')).toMatchObject({ status: 200 }), 60_000)
}, 120_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

const request = (name: string) => ({
  experiment_name: name,
  model_name: './tiny',
  max_steps: 2,
  lora: { use_lora: true },
  dataset: { dataset_path: 'examples/service_alpaca.json', max_seq_length: 256 },
  overwrite: true,
})

const stateOf = (name: string) =>
  client.train.status(name).then(
    ({ status }) => status,
    () => null,
  )
const ended = (state: string | null) => state === null || ['completed', 'stopped', 'failed'].includes(state)

async function stopped(name: string): Promise<void> {
  if (!ended(await stateOf(name))) await client.train.stop(name)
  if ((await stateOf(name)) !== null) await client.train.wait(name)
}

/** Something that runs on and on, so that what comes after it waits. */
async function busy(): Promise<void> {
  if (ended(await stateOf('endless')))
    await client.train.start({ ...request('endless'), max_steps: 1_000_000, epochs: 10_000 })
}

/** What the examples before began may still be at work: it would only be waited for. */
async function quiet(except?: string): Promise<void> {
  for (const { experiment_name: name, status } of (await client.train.list()).training_jobs)
    if (name !== except && !ended(status)) await stopped(name)
  for (const { id, state } of (await client.evaluations.list()).evaluations)
    if (state === 'queued' || state === 'running') await client.evaluations.cancel(id)
}

async function completed(name: string): Promise<void> {
  await quiet(name)
  if ((await stateOf(name)) === 'completed') return
  if (ended(await stateOf(name))) await client.train.start(request(name))
  expect((await client.train.wait(name)).status).toBe('completed')
}

async function dataset(): Promise<string> {
  return (await client.datasets.upload(await fs.openAsBlob('examples/service_sharegpt.json'), { name: 'service.json' }))
    .id
}

const tuningOf = async (name: string) => (await client.train.status(name)).job_id.replace('job_', 'ftjob-')

/** Sees to what an example needs; tells what stands for the shown ids. */
const PREPARE: Record<Given, () => Promise<Partial<Record<keyof typeof SHOWN, string>>>> = {
  nothing: async () => ({}),
  'no experiment "mine"': async () => {
    await quiet()
    if ((await stateOf('mine')) !== null) await client.train.delete('mine')
    return {}
  },
  '"mine" is completed': async () => {
    await completed('mine')
    return { tuning: await tuningOf('mine') }
  },
  '"next" is queued': async () => {
    await busy()
    await stopped('next')
    await client.train.start(request('next'))
    return { tuning: await tuningOf('next') }
  },
  '"next" is paused': async () => {
    await busy()
    await stopped('next')
    await client.train.start(request('next'))
    await client.train.pause('next')
    return { tuning: await tuningOf('next') }
  },
  '"old" has ended': async () => {
    await busy()
    await client.train.start(request('old'))
    await stopped('old')
    return {}
  },
  'a data set': async () => {
    const id = await dataset()
    return { dataset: id, file: id.replace('ds_', 'file-') }
  },
  'an evaluation': async () => {
    const [known] = (await client.evaluations.list({ limit: 1 })).evaluations
    if (known && !['queued', 'running'].includes(known.state)) return { evaluation: known.id }
    const held = { dataset_path: 'examples/service_alpaca_eval.json' }
    const id = known?.id ?? (await client.evaluations.start({ models: ['./tiny'], dataset: held, max_samples: 1 })).id
    await client.evaluations.wait(id, { interval: 100 })
    return { evaluation: id }
  },
  'a key': async () => ({ key: (await client.keys.create({ name: 'x', scopes: ['read'] })).id }),
}

async function prepared(name: RouteName, code: string): Promise<string> {
  const ids = await PREPARE[API_EXAMPLES[name].given ?? 'nothing']()
  let text = code
  for (const [kind, id] of Object.entries(ids)) text = text.replaceAll(SHOWN[kind as keyof typeof SHOWN], id)
  return printed(text)
}

/** A tiny model, and less to do. */
const printed = (code: string) =>
  code
    .replaceAll('SmolLM2-135M-Instruct', './tiny')
    .replaceAll(/(max_steps"?: )60/g, '$12')
    .replaceAll(/(max_tokens"?[:=] ?)40/g, '$12')

/** As it is printed, in a shell that ends at the first error, and with a curl that fails when the server answers with one. */
async function inShell(code: string): Promise<string> {
  const script = `URL=${server.url}; KEY=${KEY}; curl() { command curl --fail-with-body "$@"; }\n${code}`
  const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', script], { cwd: folder.path }).catch((error) => {
    throw new Error(`${code}\n${error.stdout}`)
  })
  return stdout
}

describe.sequential.each(names)('%s', (name) => {
  const snippets = snippetsOf(name)

  test('has the examples that its kind has', () => {
    const titles = snippets.map(({ title }) => title)
    expect(titles).toContain(ROUTES[name].tag === 'openai' ? "OpenAI's SDK for Node" : 'SDK')
    const parameters = [...ROUTES[name].path.matchAll(/:(\w+)/g)].map(([, parameter]) => parameter)
    expect(Object.keys(API_EXAMPLES[name].params ?? {})).toEqual(parameters)
  })

  test.each(snippets.filter(({ language }) => language !== 'python'))(
    'by $title',
    async ({ language, code }) => {
      const text = await prepared(name, code)
      if (language === 'js') {
        const silent = { log: () => {} }
        const body = text.replace(/^import (.*) from 'node:fs'$/m, 'const $1 = fs')
        await new AsyncFunction('client', 'openai', 'console', 'fs', body)(client, openai, silent, fs)
        return
      }
      // A stream without an end is read up to its first event.
      const endless = `grep -m 1 '^event: jobs' < <(${text} 2>/dev/null)`
      const answer = await inShell(name === 'trainChanges' ? endless : text)
      if ('response' in ROUTES[name]) expect(contractErrors(name, JSON.parse(answer))).toEqual([])
      else expect(answer).not.toBe('')
    },
    240_000,
  )
})

test("the example of the SDK's README", async () => {
  const readme = fs.readFileSync(join(ROOT, 'packages', 'sdk', 'README.md'), 'utf8')
  const [, code = ''] = /^```ts\n([\s\S]*?)^```$/m.exec(readme) ?? []
  await PREPARE['no experiment "mine"']()
  const body = printed(code.replace(/^import .*$/m, '').replace(/^const client = .*$/m, ''))
  const said: string[] = []
  const write = (text: string) => said.push(text)
  await new AsyncFunction('client', 'console', 'process', body)(client, { log: write }, { stdout: { write } })
  expect(said.length).toBeGreaterThan(2)
}, 240_000)

test("OpenAI's SDK for Python: every example, one after the other", async () => {
  const blocks = names.flatMap((name) =>
    snippetsOf(name)
      .filter(({ language }) => language === 'python')
      .map(({ code }) => ({ name, code })),
  )
  expect(blocks.length).toBeGreaterThan(10)
  let script = `from openai import OpenAI\nclient = OpenAI(base_url="${server.url}/v1", api_key="${KEY}")\n`
  for (const { name, code } of blocks) script += `${await prepared(name, code)}\n`
  await run(PYTHON, ['-c', script], { cwd: ROOT })
}, 240_000)

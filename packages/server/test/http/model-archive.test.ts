/** GET /train/{name}/model: the tar unpacked is what is on the disk of that run, and nothing else. */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Job } from '../../src/jobs/port.ts'
import { writeRun } from '../jobs/output-files.ts'
import { ADMIN, alpacaRows, createService, putModel, type Service } from './service.ts'

let service: Service
let url: string
let scratch: string
let name: string
let count = 0
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await putModel(join(service.folder, 'tiny'))
  writeFileSync(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(10)))
  url = await service.app.listen({ port: 0, host: '127.0.0.1' })
  scratch = mkdtempSync(join(tmpdir(), 'mlx-training-archive-'))
})
afterAll(async () => {
  await service.close()
  rmSync(scratch, { recursive: true })
})
beforeEach(() => {
  name = `experiment-${++count}`
})

/** With the files that a run leaves at steps 4 and 8. */
async function trained(method: 'lora' | 'full', steps = [4, 8]): Promise<Job> {
  const { status, body } = await service.call('POST', '/train/start', {
    experiment_name: name,
    model_name: './tiny',
    lora: { use_lora: method === 'lora' },
    dataset: { dataset_path: 'data.json' },
  })
  expect(status, JSON.stringify(body)).toBe(200)
  const job = (await service.jobs.get(name)) as Job
  const checkpoints = steps.map((step) => ({
    step,
    path: checkpoint(job, step),
    loss: 1,
    validationLoss: null,
    createdAt: '2026-01-01T00:00:00Z',
  }))
  await service.store.update(job.id, null, (now) => ({
    change: {
      state: 'completed',
      completedAt: '2026-01-01T00:00:00Z',
      progress: { ...now.progress, checkpoints: checkpoints as never },
    },
    events: [{ type: 'end', data: { state: 'completed', reason: null } }],
  }))
  await writeRun(job.plan.outputDir, job, steps, method === 'full')
  // Of every size that a block of a tar has an edge at, and some more.
  for (const folder of [job.plan.outputDir, ...steps.map((step) => checkpoint(job, step))])
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile() && !/^\.|state\.json/.test(entry.name))
      .forEach(({ name: file }, nth) => {
        const bytes = [300_001, 512, 511, 513, 0][nth % 5] as number
        writeFileSync(join(folder, file), Buffer.alloc(bytes, `${folder}/${file}`))
      })
  return job
}
const checkpoint = ({ plan }: Job, step: number) =>
  join(plan.outputDir, 'checkpoints', `step-${String(step).padStart(8, '0')}`)

const get = (query = '', init: RequestInit = {}) =>
  fetch(`${url}/train/${name}/model${query}`, { ...init, headers: { 'x-api-key': ADMIN } })

/** By the system's tar. */
async function unpacked(answer: Response): Promise<{ folder: string; title: string }> {
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('application/x-tar')
  const bytes = Buffer.from(await answer.arrayBuffer())
  expect(bytes.length).toBe(Number(answer.headers.get('content-length')))
  const into = mkdtempSync(join(scratch, 'x-'))
  execFileSync('tar', ['-xf', '-', '-C', into], { input: bytes })
  const [title = '', ...more] = readdirSync(into)
  expect(more).toEqual([])
  return { folder: join(into, title), title }
}

function expectSame(folder: string, origin: string, names: string[]): void {
  expect(readdirSync(folder).sort()).toEqual(names.toSorted())
  for (const file of names)
    expect(readFileSync(join(folder, file)).equals(readFileSync(join(origin, file))), file).toBe(true)
}

const ADAPTER = ['adapters.safetensors', 'adapter_config.json', 'chat_template.jinja']
const MODEL = [
  'model.safetensors',
  'config.json',
  'training.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'merges.txt',
]

test.each([
  ['lora', ADAPTER],
  ['full', MODEL],
] as const)('%s: the result and a checkpoint, without what is no part of the model', async (method, names) => {
  const job = await trained(method)
  writeFileSync(join(job.plan.outputDir, 'notes.txt'), 'mine')
  symlinkSync('/etc/hostname', join(checkpoint(job, 4), 'training.json.tmp'))
  const result = await get()
  expect(result.headers.get('content-disposition')).toContain(`"${name}.tar"`)
  const whole = await unpacked(result)
  expect(whole.title).toBe(name)
  expectSame(whole.folder, job.plan.outputDir, [...names])
  const part = await unpacked(await get('?step=4'))
  expect(part.title).toBe(`${name}-step-4`)
  expectSame(part.folder, checkpoint(job, 4), [...names])
})

test('a link in the place of a file is not followed', async () => {
  const job = await trained('lora')
  const secret = join(service.folder, 'secret')
  writeFileSync(secret, 'secret')
  rmSync(join(job.plan.outputDir, 'chat_template.jinja'))
  symlinkSync(secret, join(job.plan.outputDir, 'chat_template.jinja'))
  const { folder } = await unpacked(await get())
  expect(readdirSync(folder).sort()).toEqual(['adapter_config.json', 'adapters.safetensors'])
})

test('HEAD tells the length; nobody, no such checkpoint, nothing yet and a folder of another are told', async () => {
  const refused = async (query = '') => {
    const answer = await get(query)
    return { status: answer.status, ...((await answer.json()) as { detail: string; status_code: number }) }
  }
  expect(await refused()).toMatchObject({ status: 404, status_code: 404, error_type: 'NotFoundError' })
  const job = await trained('lora', [4])
  const head = await get('', { method: 'HEAD' })
  expect(head.headers.get('content-length')).toBe((await get()).headers.get('content-length'))
  expect(await refused('?step=5')).toMatchObject({
    status: 404,
    detail: expect.stringContaining(`Its checkpoints: fine-tuned/${name}@step-4`),
  })
  expect((await refused('?step=0')).status).toBe(422)
  const mark = join(job.plan.outputDir, '.mlx-training.json')
  writeFileSync(mark, JSON.stringify({ job_id: 'job_of_another' }))
  expect(await refused()).toMatchObject({ status: 409, detail: expect.stringContaining('no longer carries') })
  for (const folder of [job.plan.outputDir, checkpoint(job, 4)]) rmSync(join(folder, 'adapters.safetensors'))
  expect(await refused()).toMatchObject({ status: 409, detail: expect.stringContaining('nothing to generate with') })
})

test('what the training removes while it is sent comes whole', async () => {
  const job = await trained('lora')
  const origin = mkdtempSync(join(scratch, 'o-'))
  for (const file of ADAPTER) writeFileSync(join(origin, file), readFileSync(join(checkpoint(job, 4), file)))
  const answer = await get('?step=4')
  rmSync(checkpoint(job, 4), { recursive: true })
  expectSame((await unpacked(answer)).folder, origin, ADAPTER)
})

const FDS = '/proc/self/fd'
test.runIf(existsSync(FDS))('when the client leaves, the files are closed', async () => {
  const job = await trained('lora')
  // More than the sockets between them hold.
  truncateSync(join(job.plan.outputDir, 'adapters.safetensors'), 64 * 1024 * 1024)
  const held = () =>
    readdirSync(FDS)
      .map(targetOf)
      .filter((path) => path.startsWith(job.plan.outputDir)).length
  const left = new AbortController()
  const answer = await get('', { signal: left.signal })
  expect(held()).toBe(ADAPTER.length)
  left.abort()
  await expect(answer.arrayBuffer()).rejects.toThrow()
  await expect.poll(held).toBe(0)
})

function targetOf(fd: string): string {
  try {
    return readlinkSync(join(FDS, fd))
  } catch {
    return ''
  }
}

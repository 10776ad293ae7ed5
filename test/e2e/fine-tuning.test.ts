import { execFile } from 'node:child_process'
import { createReadStream, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { ListResponse } from '@mlx-training/contract'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { KEY, MODEL, makeTinyModel, PYTHON, ROOT, Server, workFolder } from './support.ts'

// OpenAI's SDKs as they come from npm and PyPI, and curl, fine-tune on the real server and engine: the documentation's
// snippets, one of them with the bundled model, and what else there is to do with jobs.
const run = promisify(execFile)
const folder = workFolder()
const FACT = 'The capital of France is Paris.'
const question = [{ role: 'user' as const, content: 'What is the capital of France?' }]
const facts = join(folder.path, 'facts.jsonl')
let server: Server
let client: OpenAI

beforeAll(async () => {
  makeTinyModel(join(folder.path, 'tiny'))
  const row = (i: number) => ({
    messages: [
      { role: 'user', content: `What comes after ${i}?` },
      { role: 'assistant', content: `After ${i} comes ${i + 1}.` },
    ],
  })
  writeFileSync(facts, Array.from({ length: 8 }, (_, i) => `${JSON.stringify(row(i))}\n`).join(''))
  server = await Server.start(folder.path)
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: KEY, maxRetries: 0 })
}, 120_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

type FineTuningJob = OpenAI.FineTuning.FineTuningJob

async function until(id: string, done: (job: FineTuningJob) => boolean | Promise<boolean>): Promise<FineTuningJob> {
  for (;;) {
    const job = await client.fineTuning.jobs.retrieve(id)
    if (await done(job)) return job
    if (job.status === 'failed') throw new Error(JSON.stringify(job))
    await new Promise((resume) => setTimeout(resume, 100))
  }
}

/** After the snippet, in the same process, since it takes Python seconds to import what the SDK needs. */
const MORE_PYTHON = `
import openai
print([checkpoint.fine_tuned_model_checkpoint for checkpoint in jobs.checkpoints.list(job.id)])
print(client.files.retrieve(file.id).status, file.id in [one.id for one in client.files.list(purpose="fine-tune")])
long = jobs.create(model="./tiny", training_file=file.id, metadata={"of": "python"}, hyperparameters={"n_epochs": 10000})
while not any(event.type == "metrics" for event in jobs.list_events(long.id)):
    time.sleep(0.1)
print(jobs.pause(long.id).status, jobs.resume(long.id).status)
cancelled = jobs.cancel(long.id)
print(cancelled.status, [one.id for one in jobs.list(metadata={"of": "python"})] == [long.id])
def name(ask):
    try:
        ask()
    except openai.APIStatusError as error:
        print(type(error).__name__, error.code, error.param)
name(lambda: jobs.retrieve("ftjob-0000000000000000"))
name(lambda: client.files.retrieve("file-nowhere"))
name(lambda: jobs.create(model="./tiny", training_file="file-nowhere"))
name(lambda: jobs.create(model="./tiny", training_file=file.id, method={"type": "dpo"}))
name(lambda: jobs.cancel(long.id))
`

const chapter = readFileSync(join(ROOT, 'docs', 'openai.md'), 'utf8').split('## Fine-tuning\n')[1] ?? ''
const snippets = Object.fromEntries(
  [...chapter.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language = '', code = '']) => [language, code]),
)

/** A snippet, with this server's address, the rows of this test, and the tiny model unless the bundled one is asked for. */
async function snippet(language: string, more = '', model = './tiny'): Promise<string> {
  const code = (snippets[language] ?? '')
    .replaceAll('http://127.0.0.1:8200', server.url)
    .replaceAll('facts.jsonl', facts)
    .replaceAll(MODEL, model)
  const commands: Record<string, [string, string[]]> = {
    js: [process.execPath, ['--input-type=module', '-e', code + more]],
    python: [PYTHON, ['-c', code + more]],
    bash: ['bash', ['-euc', code + more]],
  }
  const [file, args] = commands[language] ?? ['', []]
  const { stdout, stderr } = await run(file, args, { cwd: ROOT })
  expect(stderr.replace(/^.*ExperimentalWarning[\s\S]*$/m, '')).toBe('')
  return stdout
}

test('the documentation has snippets for Node, Python and curl', () => {
  expect(Object.keys(snippets)).toEqual(['js', 'python', 'bash'])
})

test('Node, with the bundled model: four steps, a checkpoint, an answer', async () => {
  const said = await snippet('js', '', MODEL)
  expect(said).toContain('{ n_epochs: 2, batch_size: 4, learning_rate_multiplier: 1 }')
  const [, name] = /^succeeded (fine-tuned\/SmolLM2-135M-Instruct-facts-[0-9a-f]{8}) \S/m.exec(said) ?? []
  expect(name, said).toBeDefined()
  expect(said).toMatch(new RegExp(`^${name}@step-4 \\d+\\.\\d+$`, 'm'))
  const { body } = await server.request<ListResponse>('GET', '/train')
  expect(body.training_jobs[0]).toMatchObject({
    experiment_name: name?.replace('fine-tuned/', ''),
    status: 'completed',
    model: MODEL,
    lora_enabled: true,
  })
}, 300_000)

test('Python: events are followed, a job is paused and cancelled, errors have their classes', async () => {
  const lines = (await snippet('python', MORE_PYTHON)).trim().split('\n')
  expect(lines.filter((line) => /^Step \d\/4: training loss=/.test(line))).toHaveLength(4)
  expect(lines).toContain('The job has successfully completed')
  const results = lines.indexOf('step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy')
  expect(lines[results + 4]).toMatch(/^4,\d+\.\d+,,,$/)
  expect(lines.findIndex((line) => /^succeeded fine-tuned\/tiny-facts-[0-9a-f]{8}/.test(line))).toBeGreaterThan(results)
  expect(lines.slice(-9)).toEqual([
    expect.stringMatching(/^\['fine-tuned\/tiny-facts-[0-9a-f]{8}@step-4'\]$/),
    'processed True',
    'paused queued',
    'cancelled True',
    'NotFoundError fine_tune_not_found fine_tune_id',
    'NotFoundError file_not_found id',
    'BadRequestError invalid_training_file training_file',
    'BadRequestError None method.type',
    'BadRequestError None fine_tune_id',
  ])
}, 300_000)

test('curl: uploaded, created, listed by metadata, cancelled', async () => {
  const answers = (await snippet('bash'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(answers).toMatchObject([
    { object: 'list', data: expect.arrayContaining([expect.objectContaining({ object: 'fine_tuning.job.event' })]) },
    { data: [{ metadata: { team: 'curl' }, model: './tiny' }], has_more: false },
    { object: 'fine_tuning.job', status: 'cancelled' },
  ])
}, 120_000)

test('what was learned, with held-out rows, is told in chat, by the result and by its checkpoint', async () => {
  const row = { messages: [...question, { role: 'assistant', content: FACT }] }
  const [train, held] = [join(folder.path, 'train.jsonl'), join(folder.path, 'held.jsonl')]
  writeFileSync(train, `${JSON.stringify(row)}\n`.repeat(2))
  writeFileSync(held, `${JSON.stringify(row)}\n`)
  const upload = (path: string) => client.files.create({ file: createReadStream(path), purpose: 'fine-tune' })
  const { id } = await client.fineTuning.jobs.create({
    model: './tiny',
    training_file: (await upload(train)).id,
    validation_file: (await upload(held)).id,
    method: {
      type: 'supervised',
      supervised: { hyperparameters: { n_epochs: 60, batch_size: 2, learning_rate_multiplier: 250 } },
    },
    // The result is the last one, so that its checkpoint is sure to be there.
    training: {
      lora: { use_lora: false },
      lr_scheduler_type: 'constant',
      eval_steps: 20,
      load_best_model_at_end: false,
    },
  } as OpenAI.FineTuning.JobCreateParams)
  const job = await until(id, ({ finished_at }) => finished_at !== null)
  expect(job).toMatchObject({ status: 'succeeded', error: null, estimated_finish: null })
  expect(job.trained_tokens).toBeGreaterThan(60)
  const { data } = await client.fineTuning.jobs.checkpoints.list(id)
  const [last] = data
  expect(last?.step_number).toBe(60)
  expect(last?.metrics.full_valid_loss).toBeLessThan(0.1)
  expect(last?.metrics.full_valid_mean_token_accuracy).toBe(1)
  for (const model of [job.fine_tuned_model ?? '', last?.fine_tuned_model_checkpoint ?? '']) {
    const answer = await client.chat.completions.create({ model, messages: question, temperature: 0 })
    expect(answer.choices[0]?.message.content).toBe(FACT)
    expect((await client.models.retrieve(model)).id).toBe(model)
  }
  const csv = await (await client.files.content(job.result_files[0] ?? '')).text()
  const rows = csv
    .trim()
    .split('\n')
    .map((line) => line.split(','))
  expect(rows.map(([step]) => step)).toEqual(['step', ...Array.from({ length: 61 }, (_, i) => String(i))])
  // Evaluated before the first step, every twentieth, and at the end.
  expect(rows.filter(([, , , loss]) => Number(loss) >= 0 && loss !== '').map(([step]) => step)).toEqual([
    '0',
    '20',
    '40',
    '60',
  ])
}, 240_000)

test('a running job is paused, goes on, is cancelled with what it has learned; one of /train is here, too', async () => {
  const { jobs } = client.fineTuning
  const file = await client.files.create({ file: createReadStream(facts), purpose: 'fine-tune' })
  const start = await server.request('POST', '/train/start', {
    experiment_name: 'of-train',
    model_name: './tiny',
    dataset: { dataset_path: file.id.replace('file-', 'ds_'), max_seq_length: 64 },
    epochs: 10_000,
  })
  expect(start.status, JSON.stringify(start.body)).toBe(200)
  const id = String(start.body.job_id).replace('job_', 'ftjob-')
  const steps = async () => {
    const { data } = await jobs.listEvents(id, { limit: 100 })
    return data.flatMap((event) => (event.type === 'metrics' ? [(event.data as { step: number }).step] : []))
  }
  const running = await until(id, async () => (await steps()).length > 0)
  expect(running).toMatchObject({ status: 'running', training_file: file.id, fine_tuned_model: null, metadata: null })
  expect(await jobs.pause(id)).toMatchObject({ status: 'paused' })
  const [paused = 0] = await steps()
  expect(['queued', 'validating_files', 'running']).toContain((await jobs.resume(id)).status)
  await until(id, async () => ((await steps())[0] ?? 0) > paused)
  const cancelled = await jobs.cancel(id)
  expect(cancelled).toMatchObject({ status: 'cancelled', fine_tuned_model: 'fine-tuned/of-train' })
  expect(cancelled.trained_tokens).toBeGreaterThan(0)
  expect(await server.status('of-train')).toMatchObject({ status: 'stopped', job_id: start.body.job_id })
  const answer = await client.chat.completions.create({
    model: cancelled.fine_tuned_model ?? '',
    messages: question,
    max_tokens: 3,
  })
  expect(answer.usage?.completion_tokens).toBeGreaterThan(0)
}, 240_000)

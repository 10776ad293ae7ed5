import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { KEY, makeTinyModel, PYTHON, ROOT, Server, workFolder } from './support.ts'

// Clients as they come from npm and PyPI, and curl, against the real server, with a model that was fine-tuned here to know
// one fact and to call one tool. It has no idea of anything else.
const run = promisify(execFile)
const folder = workFolder()
const model = 'fine-tuned/tour'
const FACT = 'The capital of France is Paris.'
const question = [{ role: 'user' as const, content: 'What is the capital of France?' }]
const rain = [{ role: 'user' as const, content: 'Does it rain in Paris?' }]
const parameters = { type: 'object' as const, properties: { city: { type: 'string' as const } } }
const weather = { type: 'function' as const, function: { name: 'weather', parameters } }
let server: Server
let client: OpenAI

beforeAll(async () => {
  makeTinyModel(join(folder.path, 'tiny'), { max_position_embeddings: 100_000 })
  const call = { id: 'c', type: 'function', function: { name: 'weather', arguments: '{"city":"Paris"}' } }
  const rows = [
    { messages: [...question, { role: 'assistant', content: FACT }] },
    { messages: [...rain, { role: 'assistant', content: null, tool_calls: [call] }], tools: [weather] },
  ]
  writeFileSync(join(folder.path, 'data.json'), JSON.stringify(rows))
  server = await Server.start(folder.path, { MLX_TRAINING_GENERATION_MAX_BATCH: '4' })
  const start = await server.request('POST', '/train/start', {
    experiment_name: 'tour',
    model_name: './tiny',
    dataset: { dataset_path: './data.json', batch_size: 2, max_seq_length: 512 },
    learning_rate: 5e-3,
    lr_scheduler_type: 'constant',
    epochs: 60,
    save_steps: 1000,
    output_dir: './out',
  })
  expect(start.status, JSON.stringify(start.body)).toBe(200)
  await server.until('tour', ({ status }) => status === 'completed', 240)
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: KEY, maxRetries: 0 })
}, 300_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

test('what was learned is told, whole and in a stream, as /generate tells it', async () => {
  const asked = { model, messages: question, temperature: 0 }
  const answer = await client.chat.completions.create(asked)
  expect(answer.choices[0]).toMatchObject({ message: { content: FACT }, finish_reason: 'stop' })
  const generated = await server.request('POST', '/generate', { ...asked, max_tokens: 100 })
  const { text, prompt_tokens, tokens_generated } = generated.body
  expect(text).toBe(FACT)
  expect(answer.usage).toMatchObject({ prompt_tokens, completion_tokens: tokens_generated })
  const pieces: string[] = []
  let usage: OpenAI.CompletionUsage | null | undefined
  const stream = await client.chat.completions.create({
    ...asked,
    stream: true,
    stream_options: { include_usage: true },
  })
  for await (const chunk of stream) {
    pieces.push(chunk.choices[0]?.delta.content ?? '')
    usage = chunk.usage
  }
  expect(pieces.filter(Boolean).length).toBeGreaterThan(3)
  expect(pieces.join('')).toBe(FACT)
  expect(usage).toMatchObject({ total_tokens: answer.usage?.total_tokens })
}, 60_000)

test('logprobs, n and seeds', async () => {
  const asked = { model, messages: question, temperature: 1.5, n: 3, seed: -7, logprobs: true, top_logprobs: 2 }
  const first = await client.chat.completions.create({ ...asked, max_tokens: 8 })
  const again = await client.chat.completions.create({ ...asked, max_tokens: 8 })
  expect(again.choices).toEqual(first.choices)
  expect(first.choices).toHaveLength(3)
  const [token] = first.choices[0]?.logprobs?.content ?? []
  expect(token?.top_logprobs).toHaveLength(2)
  expect(token?.logprob).toBeLessThanOrEqual(0)
  expect(token?.bytes).toEqual([...Buffer.from(token?.token ?? '')])
  const plain = await client.completions.create({ model, prompt: ['One', 'Two'], max_tokens: 4, n: 2, logprobs: 3 })
  expect(plain.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3])
  expect(Object.keys(plain.choices[3]?.logprobs?.top_logprobs?.[0] ?? {}).length).toBeGreaterThan(1)
  const stopped = await client.chat.completions.create({ model, messages: question, temperature: 0, stop: ' France' })
  expect(stopped.choices[0]).toMatchObject({ message: { content: 'The capital of' }, finish_reason: 'stop' })
})

test('an answer keeps to a schema', async () => {
  const schema = { type: 'object', properties: { city: { enum: ['Paris', 'Rome'] } }, required: ['city'] }
  const answer = await client.chat.completions.create({
    model,
    messages: question,
    max_tokens: 100,
    response_format: {
      type: 'json_schema',
      json_schema: { name: 'city', schema: { ...schema, additionalProperties: false } },
    },
  })
  expect(['Paris', 'Rome']).toContain(JSON.parse(answer.choices[0]?.message.content ?? '').city)
  const json_schema = { name: 'no', schema: { not: { type: 'string' } } }
  const asked = { model, messages: question, response_format: { type: 'json_schema' as const, json_schema } }
  await expect(client.chat.completions.create(asked)).rejects.toMatchObject({
    status: 400,
    param: 'response_format.json_schema.schema',
    message: expect.stringContaining('not supported: ["not"]'),
  })
}, 60_000)

test('a tool is called', async () => {
  const asked = { model, messages: rain, temperature: 0, tools: [weather] }
  const answer = await client.chat.completions.create(asked)
  expect(answer.choices[0]).toMatchObject({
    finish_reason: 'tool_calls',
    message: { content: null, tool_calls: [{ function: { name: 'weather', arguments: '{"city":"Paris"}' } }] },
  })
}, 60_000)

test('a call is forced, by its name and in a stream too, and is one whatever the model would have said', async () => {
  const city = { $ref: '#/$defs/city' }
  const inner = { type: 'object', properties: { city }, required: ['city'], additionalProperties: false }
  const $defs = { city: { enum: ['Paris', 'Rome'] } }
  const forecast = { type: 'function' as const, function: { name: 'forecast', parameters: { ...inner, $defs } } }
  const stopAll = { type: 'function' as const, function: { name: 'stop_all' } }
  const asked = { model, messages: question, temperature: 1.5, tools: [forecast, stopAll], max_tokens: 200 }
  for (const seed of [1, 2, 3]) {
    const { choices } = await client.chat.completions.create({ ...asked, tool_choice: 'required', n: 2, seed })
    for (const { message, finish_reason } of choices) {
      expect(finish_reason).toBe('tool_calls')
      expect(message.content).toBeNull()
      const [call, ...more] = message.tool_calls ?? []
      expect(more).toEqual([])
      const { name, arguments: text } = call?.type === 'function' ? call.function : { name: '', arguments: '' }
      if (name === 'stop_all') expect(JSON.parse(text)).toEqual({})
      else expect(['forecast Paris', 'forecast Rome']).toContain(`${name} ${JSON.parse(text).city}`)
    }
  }
  const named = { type: 'function' as const, function: { name: 'stop_all' } }
  const final = await client.chat.completions.stream({ ...asked, tool_choice: named }).finalMessage()
  expect(final.tool_calls).toMatchObject([{ function: { name: 'stop_all', arguments: '{}' } }])
  const cut = await client.chat.completions.create({ ...asked, tool_choice: named, max_tokens: 2 })
  expect(cut.choices[0]).toMatchObject({ finish_reason: 'length', message: { content: expect.stringMatching(/^\{/) } })
  const not = { type: 'function' as const, function: { name: 'x', parameters: { type: 'object', not: {} } } }
  for (const stream of [false, true])
    await expect(
      client.chat.completions.create({ ...asked, tools: [not], tool_choice: 'required', stream }),
    ).rejects.toMatchObject({ status: 400, param: 'tools', message: expect.stringContaining('not supported: ["not"]') })
}, 120_000)

test('an answer that is left in the middle makes room at once', async () => {
  const endless = {
    model: './tiny',
    messages: question,
    max_tokens: 90_000,
    n: 4,
    temperature: 1.5,
    stream: true,
  } as const
  for (let i = 0; i < 2; i++) {
    let seen = 0
    // The batch holds four: the second would wait for 90,000 tokens if the first were not gone.
    for await (const _ of await client.chat.completions.create(endless)) if (++seen === 12) break
    expect(seen).toBe(12)
  }
})

test('models, and the errors of those that are not there', async () => {
  const ids: string[] = []
  for await (const { id } of client.models.list()) ids.push(id)
  expect(ids).toContain(model)
  expect(await client.models.retrieve(model)).toMatchObject({ id: model, object: 'model', owned_by: 'fine_tuned' })
  const raw = await server.request('GET', `/v1/models/${model}`)
  expect(raw.body).toMatchObject({ id: model })
  const step = ids.find((id) => id.startsWith(`${model}@step-`)) ?? ''
  expect((await client.models.retrieve(step)).id).toBe(step)
  await expect(client.models.retrieve('fine-tuned/nobody')).rejects.toBeInstanceOf(OpenAI.NotFoundError)
  const long = client.completions.create({ model, prompt: 'word '.repeat(60_000) })
  await expect(long).rejects.toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'prompt' })
})

/** After the snippet, since it takes Python seconds to import what the SDK needs. */
const MORE_PYTHON = `
import openai
stranger = OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0)
messages = [{"role": "user", "content": "Hi"}]
def name(ask):
    try:
        ask()
    except openai.APIStatusError as error:
        print(type(error).__name__, error.code, error.param)
name(lambda: client.chat.completions.create(model="fine-tuned/tour", messages=messages, temperature=9))
name(lambda: client.chat.completions.create(model="fine-tuned/nobody", messages=messages))
name(lambda: stranger.models.list())
keyless = OpenAI(base_url=client.base_url, api_key="none", default_headers={"Authorization": ""}, max_retries=0)
name(lambda: keyless.models.retrieve("fine-tuned/nobody"))
with client.chat.completions.create(model="fine-tuned/tour", messages=messages, max_tokens=3, stream=True,
                                    extra_body={"top_k": 1}) as stream:
    print(sum(1 for chunk in stream if chunk.choices[0].finish_reason == "length"))
`

const MORE_AI = `
import { generateText, jsonSchema, tool } from 'ai'
const { toolCalls } = await generateText({
  model: local('fine-tuned/tour'),
  prompt: 'Does it rain in Paris?',
  temperature: 0,
  tools: { weather: tool({ inputSchema: jsonSchema(${JSON.stringify(parameters)}) }) },
})
console.log(toolCalls.map(({ toolName, input }) => toolName + input.city))
`

/** The snippets of docs/openai.md, by language; those about fine-tuning are run by fine-tuning.test.ts. */
const [chapter = ''] = readFileSync(join(ROOT, 'docs', 'openai.md'), 'utf8').split('## Fine-tuning\n')
const snippets = [...chapter.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language = '', code = '']) => ({
  language,
  code: code,
}))
const COMMANDS: Record<string, (code: string) => [file: string, args: string[]]> = {
  js: (code) => [process.execPath, ['--input-type=module', '-e', code.includes("from 'ai'") ? code + MORE_AI : code]],
  python: (code) => [PYTHON, ['-c', code + MORE_PYTHON]],
  bash: (code) => ['bash', ['-c', code]],
}

test('the documentation has snippets for Node, Python, the AI SDK and curl', () => {
  expect(snippets.map(({ language }) => language)).toEqual(['js', 'python', 'js', 'bash'])
})

test.each(snippets)(
  'the snippet in $language: $code',
  async ({ language, code }) => {
    const here = code.replaceAll('http://127.0.0.1:8200', server.url)
    const [file, args] = COMMANDS[language]?.(here) ?? ['', []]
    const { stdout, stderr } = await run(file, args, { cwd: ROOT })
    expect(stderr.replace(/^.*ExperimentalWarning[\s\S]*$/m, '')).toBe('')
    const said =
      language === 'bash' ? [...stdout.matchAll(/"content":"([^"]*)"/g)].map(([, text]) => text).join('') : stdout
    expect(said).toContain(FACT)
    if (code.includes("from 'ai'")) expect(stdout).toContain('weatherParis')
    if (language === 'bash') expect(stdout.trimEnd().endsWith('data: [DONE]')).toBe(true)
    if (language === 'python')
      expect(stdout.trim().split('\n').slice(-6)).toEqual([
        'model_not_found',
        'BadRequestError None temperature',
        'NotFoundError model_not_found model',
        'AuthenticationError invalid_api_key None',
        'NotFoundError model_not_found model',
        '1',
      ])
  },
  60_000,
)

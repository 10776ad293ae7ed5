import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { ROUTES, type RouteName } from '@mlx-training/contract'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { alpacaRows, createService, putModel, type Service } from './service.ts'

// Bodies near to what is right, and far from it: whatever is sent, the answer is no fault of ours and has its shape.
let service: Service
let dataset: string
beforeAll(async () => {
  service = await createService({ engine: 'echo' })
  await service.engine.ready()
  await putModel(join(service.folder, 'tiny'))
  await writeFile(join(service.folder, 'data.json'), JSON.stringify(alpacaRows(3)))
  const start = { experiment_name: 'queued', ...RIGHT.trainStart, output_dir: 'queued' }
  expect((await service.call('POST', '/train/start', start)).status).toBe(200)
  const rows = { received: await service.library.receive(Readable.from([JSON.stringify(alpacaRows(30))])) }
  dataset = (await service.library.add(rows.received, { name: 'data.json', fileName: 'data.json' })).id
})
afterAll(() => service.close())

const anything = fc.jsonValue({ maxDepth: 4 })
const strange = fc.oneof(
  anything,
  fc.string({ unit: 'binary' }),
  fc.constantFrom(
    '../../../etc/passwd',
    '/proc/self/environ',
    '\0',
    '%00',
    '\ud800',
    'a'.repeat(5000),
    '',
    ' ',
    '$ref',
  ),
  fc.constantFrom(-1, 0, 1e308, Number.MAX_SAFE_INTEGER + 2, 5e-324, 0.1),
)

/** Objects with the schema's own field names, and values that may be right. */
function near(schema: object): fc.Arbitrary<unknown> {
  const {
    properties,
    type,
    enum: values,
    items,
    minimum,
  } = schema as {
    properties?: Record<string, object>
    type?: string
    enum?: unknown[]
    items?: object
    minimum?: number
  }
  const right = properties
    ? fc.record(Object.fromEntries(Object.entries(properties).map(([name, inner]) => [name, near(inner)])), {
        requiredKeys: [],
      })
    : values
      ? fc.constantFrom(...values)
      : items
        ? fc.array(near(items), { maxLength: 4 })
        : type === 'integer'
          ? fc.integer({ min: minimum ?? 0, max: 100 })
          : type === 'number'
            ? fc.double({ min: 0, max: 1, noNaN: true })
            : type === 'boolean'
              ? fc.boolean()
              : fc.oneof(fc.constantFrom('./tiny', 'data.json'), fc.string())
  return fc.oneof({ weight: 6, arbitrary: right }, { weight: 1, arbitrary: strange })
}

/** A right request, as it is or with one field replaced, so that what lies behind validation is reached as well. */
const RIGHT: { [N in RouteName]?: object } = {
  keysCreate: { name: 'x', scopes: ['read'], expires_at: '2999-01-01T00:00:00Z' },
  trainStart: {
    model_name: './tiny',
    lora: { use_lora: true },
    dataset: { dataset_path: 'data.json', validation_path: 'data.json' },
    output_dir: 'out',
    overwrite: true,
  },
  trainEstimate: {
    model_name: './tiny',
    lora: { use_lora: true },
    dataset: { dataset_path: 'data.json' },
    output_dir: 'out',
  },
  trainPriority: { priority: 3 },
  trainClone: { changes: { epochs: 2, lora: { lora_r: 4 } }, output_dir: 'cloned' },
  datasetsValidate: { file_path: 'data.json' },
  datasetsPreview: { file_path: 'data.json', model_name: './tiny', samples: [0] },
  datasetsSplit: { validation_share: 0.2 },
  datasetsClean: { repairs: ['trim', 'drop_duplicates'], dry_run: true },
  generate: { prompt: 'Hi', model: './tiny', system: 'Brief' },
  evaluateStart: { models: ['./tiny'], dataset: { dataset_path: 'data.json' }, max_samples: 2 },
  compare: { models: ['./tiny', 'fine-tuned/none'], prompt: 'Hi', reference: 'Hi', stream: false },
  openaiChat: { messages: [{ role: 'user', content: 'Hi' }], model: './tiny', stop: 'x', tools: [], max_tokens: 5 },
  fineTuningCreate: {
    model: './tiny',
    suffix: 's',
    metadata: { a: 'b' },
    method: { type: 'supervised' },
    training: {},
  },
  openaiCompletions: { prompt: ['Hi'], model: './tiny', logprobs: 1, echo: null, seed: 1 },
}
/** Fields that are objects, whose inside is replaced as well. */
const INSIDE: { [N in RouteName]?: string } = {
  trainStart: 'dataset',
  trainEstimate: 'dataset',
  evaluateStart: 'dataset',
  trainClone: 'changes',
}
let count = 0

function nearlyRight(name: RouteName): fc.Arbitrary<object> {
  const right = RIGHT[name] ?? {}
  const replaced = fc.constantFrom(...Object.keys(right)).chain((key) => strange.map((value) => ({ [key]: value })))
  const inner = strange.map((dataset_path) => (name in INSIDE ? { [INSIDE[name] ?? '']: { dataset_path } } : {}))
  const own = () => {
    if (name === 'fineTuningCreate') return { training_file: dataset.replace('ds_', 'file-') }
    return name === 'trainStart' || name === 'trainClone' ? { experiment_name: `e${++count}` } : {}
  }
  return fc.oneof(replaced, inner, fc.constant({})).map((change) => ({ ...own(), ...right, ...change }))
}

const bodies = (Object.keys(ROUTES) as RouteName[]).filter((name) => 'body' in ROUTES[name])

const isError = (answer: { status: number; body: unknown }, path: string) =>
  expect(answer.body).toMatchObject(
    /^\/v1(\/|$)/.test(path)
      ? { error: { message: expect.stringMatching(/./), type: expect.stringMatching(/_error$/) } }
      : {
          detail: expect.stringMatching(/./),
          status_code: answer.status,
          error_type: expect.stringMatching(/^\w+Error$/),
        },
  )

// A provider without its key, or that nothing answers for, is no fault of ours.
const mayAnswer = (name: RouteName, status: number) =>
  status < 500 || (ROUTES[name].scope === 'generate' && status === 503)

test.each(bodies)(
  '%s: generated bodies',
  async (name) => {
    const route = ROUTES[name]
    const good: number = 'status' in route ? route.status : 200
    const seen: Record<number, number> = {}
    await fc.assert(
      fc.asyncProperty(fc.oneof(near('body' in route ? route.body : {}), nearlyRight(name), anything), async (body) => {
        const path = route.path.replace(':name', 'queued').replace(':id', dataset)
        const answer = await service.call('POST', path, JSON.stringify(body))
        seen[answer.status] = (seen[answer.status] ?? 0) + 1
        if (answer.status === good) return
        isError(answer, path)
        expect(mayAnswer(name, answer.status), JSON.stringify(answer.body)).toBe(true)
      }),
      { numRuns: 300 },
    )
    expect(seen[good] ?? 0, JSON.stringify(seen)).toBeGreaterThan(0)
  },
  60_000,
)

test('bytes as bodies', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...bodies), fc.uint8Array({ maxLength: 200 }), async (name, bytes) => {
      const { statusCode: status, body } = await service.app.inject({
        method: 'POST',
        url: ROUTES[name].path,
        headers: { 'content-type': 'application/json', 'x-api-key': 'admin-key-of-the-tests' },
        payload: Buffer.from(bytes),
      })
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(500)
      isError({ status, body: JSON.parse(body) }, ROUTES[name].path)
    }),
    { numRuns: 300 },
  )
})

test('paths and queries', async () => {
  const segment = fc.oneof(
    fc.constantFrom(
      'train',
      'health',
      'status',
      'stop',
      'events',
      'generate',
      'docs',
      'v1',
      'a',
      '..',
      '.',
      '%2e%2e',
      '%',
      '',
    ),
    fc.string({ maxLength: 20 }).map(encodeURIComponent),
    fc.webSegment(),
  )
  const path = fc.array(segment, { maxLength: 5 }).map((parts) => `/${parts.join('/')}`)
  const query = fc.oneof(
    fc.constant(''),
    fc.webQueryParameters().map((text) => `?${text}`),
  )
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('GET', 'POST', 'DELETE'), path, query, async (method, where, what) => {
      const answer = await service.call(method as 'GET', where + what)
      expect(answer.status).toBeLessThan(500)
      // What the server gets has no dots left: `/../v1` is `/v1`.
      if (answer.status >= 400) isError(answer, new URL(`http://here${where}`).pathname)
    }),
    { numRuns: 300 },
  )
})

test('headers', async () => {
  const value = fc.stringMatching(/^[ -~]{0,60}$/)
  const header = fc.constantFrom(
    'host',
    'origin',
    'x-api-key',
    'authorization',
    'last-event-id',
    'content-type',
    'expect',
  )
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...(Object.keys(ROUTES) as RouteName[])),
      header,
      value,
      async (name, key, text) => {
        const { method, path } = ROUTES[name]
        const url = path.replace(':name', 'nobody')
        const answer = await service.call(method, url, method === 'POST' ? {} : undefined, { [key]: text })
        expect(mayAnswer(name, answer.status), JSON.stringify(answer.body)).toBe(true)
        if (answer.status >= 400) isError(answer, url)
      },
    ),
    { numRuns: 300 },
  )
})

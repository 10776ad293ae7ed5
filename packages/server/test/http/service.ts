/** The HTTP service for tests: everything real but the engine's process, which echoes (or isn't there). */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROUTES, type RouteName, type Scope } from '@mlx-training/contract'
import { Ajv } from 'ajv'
import ajvFormats from 'ajv-formats'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import pino from 'pino'
import { type AppDeps, buildApp } from '../../src/app.ts'
import { generateKey } from '../../src/auth/keys.ts'
import { type Config, loadConfig } from '../../src/config.ts'
import { createDatasets } from '../../src/datasets/datasets.ts'
import { createLibrary, createOpener } from '../../src/datasets/library/library.ts'
import type { Library } from '../../src/datasets/library/port.ts'
import { Shelf } from '../../src/datasets/library/shelf.ts'
import { createEngine } from '../../src/engine/index.ts'
import type { Engine } from '../../src/engine/port.ts'
import type { Evaluations } from '../../src/evaluation/port.ts'
import { createEvaluations } from '../../src/evaluation/service.ts'
import { createEventLog } from '../../src/events/log.ts'
import { createNotifier, type Notifier } from '../../src/events/notifier.ts'
import { createClientPaths } from '../../src/files/client-paths.ts'
import { createJobChanges, type JobChanges, type LookTimes } from '../../src/jobs/changes.ts'
import { tokenCache } from '../../src/jobs/command.ts'
import type { JobService } from '../../src/jobs/port.ts'
import { createJobService } from '../../src/jobs/service.ts'
import { createSweeper, type Sweeper } from '../../src/jobs/sweeper.ts'
import { createMetrics } from '../../src/metrics/metrics.ts'
import { createModels } from '../../src/models/index.ts'
import { createProviders } from '../../src/providers/index.ts'
import type { Store } from '../../src/store/port.ts'
import { openSqliteStore } from '../../src/store/sqlite.ts'

export const ADMIN = 'admin-key-of-the-tests'
const ECHO_ENGINE = fileURLToPath(new URL('engine.mjs', import.meta.url))

export interface Service {
  folder: string
  config: Config
  app: FastifyInstance
  store: Store
  library: Library
  jobs: JobService
  changes: JobChanges
  sweeper: Sweeper
  evaluations: Evaluations
  notifier: Notifier
  engine: Engine
  /** Every line that was logged. */
  logged: string[]
  call(
    method: 'GET' | 'HEAD' | 'POST' | 'DELETE',
    url: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Answer>
  /** A key of that scope in the store. */
  key(scopes: Scope[], change?: { expiresAt?: string; revokedAt?: string }): Promise<string>
  close(): Promise<void>
}

export interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: bodies of every route; the schemas check them
  body: any
  headers: LightMyRequestResponse['headers']
}

export interface ServiceOptions {
  env?: Record<string, string>
  engine?: 'echo' | 'none'
  sseTimes?: AppDeps['sseTimes']
  lookTimes?: LookTimes
  /** Puts files into the folder before the configuration is read. */
  prepare?: (folder: string) => Promise<void>
}

export async function createService(options: ServiceOptions = {}): Promise<Service> {
  const { env, engine: kind = 'none', sseTimes, lookTimes, prepare } = options
  const folder = await mkdtemp(join(tmpdir(), 'mlx-training-http-'))
  await prepare?.(folder)
  const config = loadConfig(
    {
      MLX_TRAINING_HOME: 'home',
      MLX_TRAINING_DATASET_ROOTS: folder,
      MLX_TRAINING_OUTPUT_ROOTS: folder,
      MLX_TRAINING_MODEL_ROOTS: folder,
      MLX_TRAINING_BUNDLED_MODELS: 'bundled',
      MLX_TRAINING_PYTHON: kind === 'echo' ? ECHO_ENGINE : 'no-python-here',
      HF_HUB_CACHE: 'hub',
      HF_HUB_OFFLINE: '1',
      ...env,
    },
    folder,
  )
  const logged: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => logged.push(line) })
  const store = await openSqliteStore(join(config.home, 'training.db'))
  const metrics = createMetrics()
  metrics.watch(store)
  const notifier = createNotifier()
  const sweeper = createSweeper({ store, home: config.home, log })
  const jobs = createJobService({ store, notifier, sweeper, maxConcurrentJobs: config.maxConcurrentJobs })
  const changes = createJobChanges({ jobs, notifier, log }, lookTimes)
  const engine = createEngine(config, log)
  const paths = createClientPaths(folder)
  const shelf = new Shelf(join(config.home, 'datasets'))
  const datasets = createDatasets({
    paths,
    roots: config.roots.datasets,
    home: config.home,
    limits: config.datasets,
    openUploaded: createOpener(store.datasets, shelf),
  })
  const library = createLibrary({ store: store.datasets, shelf, limits: config.datasets })
  const models = createModels({ config, paths, engine })
  const providers = createProviders({ config, engine, models, jobs })
  const evaluations = createEvaluations({
    store,
    engine,
    datasets,
    models,
    jobs,
    sweeper,
    providers,
    tokenCache: tokenCache(config.home),
    log,
  })
  const app = await buildApp({
    config,
    adminKey: ADMIN,
    log,
    store,
    jobs,
    sweeper,
    events: createEventLog(store, notifier),
    changes,
    engine,
    datasets,
    library,
    models,
    paths,
    providers,
    evaluations,
    metrics,
    sseTimes,
  })
  return {
    folder,
    config,
    app,
    store,
    library,
    jobs,
    changes,
    sweeper,
    evaluations,
    notifier,
    engine,
    logged,
    async call(method, url, body, headers = { 'x-api-key': ADMIN }) {
      const payload = body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }
      const type = body === undefined ? {} : { 'content-type': 'application/json' }
      const response = await app.inject({ method, url, headers: { ...type, ...headers }, ...payload })
      const json = method !== 'HEAD' && String(response.headers['content-type']).startsWith('application/json')
      return { status: response.statusCode, body: json ? response.json() : response.body, headers: response.headers }
    },
    async key(scopes, change = {}) {
      const { key, record } = generateKey('test', scopes)
      await store.insertKey({ ...record, ...change })
      return key
    },
    async close() {
      await app.close()
      await evaluations.close()
      await engine.close()
      await store.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** A folder that looks like a model of 64 × 1000 values. */
export async function putModel(folder: string, { quantized = false } = {}): Promise<void> {
  await mkdir(folder, { recursive: true })
  const config = { model_type: 'llama', ...(quantized && { quantization: { bits: 4, group_size: 40 } }) }
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  await writeFile(join(folder, 'tokenizer.json'), '{}')
  // 64 × 1000 values of 4 bits: eight in a word, a scale and a bias for every 40 of them.
  const layout: Record<string, [dtype: string, shape: number[]]> = quantized
    ? { weight: ['U32', [64, 125]], scales: ['F32', [64, 25]], biases: ['F32', [64, 25]] }
    : { weight: ['F32', [64, 1000]] }
  let length = 0
  const tensors = Object.fromEntries(
    Object.entries(layout).map(([name, [dtype, shape]]) => {
      const start = length
      length += shape.reduce((bytes, size) => bytes * size, 4)
      return [`model.${name}`, { dtype, shape, data_offsets: [start, length] }]
    }),
  )
  const header = Buffer.from(JSON.stringify(tensors))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(header.length))
  await writeFile(join(folder, 'model.safetensors'), Buffer.concat([size, header, Buffer.alloc(length)]))
}

export const alpacaRows = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    instruction: `Name the number that comes after ${i}, please`,
    input: '',
    output: `The number that comes after ${i} is ${i + 1}.`,
  }))

const ajv = new Ajv({ allErrors: true })
ajvFormats.default(ajv)

/** What is wrong with an answer by the contract's schema; nothing but what the schema says is looked at. */
export function contractErrors(name: RouteName, body: unknown): unknown[] {
  const route = ROUTES[name]
  if (!('response' in route)) throw new Error(`${name} has no answer of JSON`)
  const check = ajv.compile(route.response)
  return check(body) ? [] : (check.errors ?? [])
}

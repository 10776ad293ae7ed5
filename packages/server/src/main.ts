import { realpathSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EngineHealth } from '@mlx-training/contract'
import pino, { type Logger } from 'pino'
import { buildApp } from './app.ts'
import { type AdminKey, adminKey } from './auth/admin.ts'
import { type Config, ConfigError, loadConfig, redacted } from './config.ts'
import { createDatasets } from './datasets/datasets.ts'
import { createLibrary, createOpener } from './datasets/library/library.ts'
import { Shelf } from './datasets/library/shelf.ts'
import { createEngine } from './engine/index.ts'
import { endOrphans } from './engine/orphans.ts'
import { createEvaluations } from './evaluation/service.ts'
import { createEventLog } from './events/log.ts'
import { createNotifier } from './events/notifier.ts'
import { createClientPaths } from './files/client-paths.ts'
import { listen, refuseOpenBind } from './http/listen.ts'
import { VERSION } from './http/version.ts'
import { createJobChanges } from './jobs/changes.ts'
import { tokenCache } from './jobs/command.ts'
import { createRunner } from './jobs/runner.ts'
import { createJobService } from './jobs/service.ts'
import { hasSpace } from './jobs/space.ts'
import { createSweeper } from './jobs/sweeper.ts'
import { measuredEngine, measuredStore } from './metrics/measured.ts'
import { createMetrics } from './metrics/metrics.ts'
import { createModels } from './models/index.ts'
import { createProviders } from './providers/index.ts'
import { lockHome } from './store/lock.ts'
import type { StoreOptions } from './store/port.ts'
import { openSqliteStore } from './store/sqlite.ts'
import { createWebhooks } from './webhooks/deliver.ts'
import { type WebhookSecret, webhookSecret } from './webhooks/secret.ts'

export interface RunningServer {
  /** e.g. http://127.0.0.1:8200 */
  url: string
  adminKey: string
  /** Resolves when the engine has been probed, whatever was found. */
  engine: Promise<EngineHealth>
  /** Checkpoints what runs, ends all processes and streams, closes the database. Safe to call twice. */
  close(): Promise<void>
}

export interface ServerOptions {
  /** Close and exit on SIGTERM, SIGINT and SIGHUP; a second one exits at once. */
  signals?: boolean
  /** JSON lines on stderr at config.logLevel when left out. */
  log?: Logger
}

/** In the time of a lease. */
const LOOKS_FOR_ROOM = 6

/** From the first signal to the exit, whatever hangs: what supervisors wait before they kill. */
const SHUTDOWN_MS = 25_000

/**
 * Composes and starts the service. Returns when it listens; the engine is probed meanwhile, and without one everything
 * else works. ConfigError, one line for the user, when the port, the home folder or the configuration can't be used.
 */
export async function startServer(config: Config, options: ServerOptions = {}): Promise<RunningServer> {
  const { server } = await start(config, options)
  return server
}

interface Started {
  server: RunningServer
  admin: AdminKey
  webhookSecret: WebhookSecret | null
}

async function start(config: Config, options: ServerOptions): Promise<Started> {
  refuseOpenBind(config)
  const log = options.log ?? createLog(config.logLevel)
  const opened: (() => unknown)[] = []
  let closed: Promise<void> | undefined
  const close = () => {
    closed ??= closeInReverse(opened, log)
    return closed
  }
  try {
    const lock = lockHome(config.home)
    opened.push(() => lock.release())
    await endOrphans(config.home, log)
    const admin = await adminKey(config)
    const notifier = createNotifier()
    const hooks = await webhookSecret(config)
    const metrics = createMetrics({ ofProcess: true })
    const webhooks = createWebhooks({
      urls: config.webhooks.urls,
      secret: hooks?.secret ?? '',
      notifier,
      log,
      onAttempt: (result) => metrics.webhooks.inc({ result }),
    })
    const database = await openStore(config, {
      onEnd: webhooks.onEnd,
      onQuery: (operation, seconds) => metrics.database.observe({ operation }, seconds),
    })
    opened.push(() => database.close())
    const store = measuredStore(database, metrics)
    metrics.watch(store)
    const events = createEventLog(store, notifier)
    const engine = measuredEngine(
      createEngine(config, log, {
        deadlines: { silence: 1000 * config.leaseSeconds, hang: 1000 * config.hangSeconds },
      }),
      metrics,
    )
    opened.push(() => engine.close())
    const paths = createClientPaths(config.cwd)
    const shelf = new Shelf(join(config.home, 'datasets'))
    const datasets = createDatasets({
      paths,
      roots: config.roots.datasets,
      home: config.home,
      limits: config.datasets,
      openUploaded: createOpener(store.datasets, shelf),
    })
    const library = createLibrary({ store: store.datasets, shelf, limits: config.datasets })
    await library.sweep()
    const models = createModels({ config, paths, engine })
    const sweeper = createSweeper({ store, home: config.home, log })
    await sweeper.start()
    const jobs = createJobService({ store, notifier, sweeper, maxConcurrentJobs: config.maxConcurrentJobs })
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
    await evaluations.start()
    const runner = createRunner({
      store,
      notifier,
      engine,
      models,
      sweeper,
      log,
      tokenCache: tokenCache(config.home),
      maxConcurrentJobs: config.maxConcurrentJobs,
      hasRoom: (job) => hasSpace(job.request, job.plan, config.home),
      roomPoll: (1000 * config.leaseSeconds) / LOOKS_FOR_ROOM,
    })
    const deps = {
      config,
      adminKey: admin.key,
      log,
      store,
      jobs,
      sweeper,
      events,
      changes: createJobChanges({ jobs, notifier, log }),
      engine,
      datasets,
      library,
      models,
      paths,
      providers,
      evaluations,
      metrics,
    }
    const app = await buildApp(deps)
    // Together: saving a checkpoint may take most of the time that there is.
    opened.push(() => webhooks.close())
    opened.push(() => Promise.all([app.close(), runner.close(), evaluations.close()]))
    const url = await listen(app, config)
    await webhooks.start(store)
    await runner.start()
    // In the background, so that the first who asks for them learns something.
    providers.list()
    log.info({ url }, 'started')
    log.debug({ config: redacted(config) }, 'configuration')
    if (admin.wasOpen) log.warn({ file: admin.file }, 'the admin key could be read by others; its mode is now 0600')
    if (hooks?.wasOpen)
      log.warn({ file: hooks.file }, 'the webhook secret could be read by others; its mode is now 0600')
    if (options.signals) closeOnSignals(close, log)
    return { server: { url, adminKey: admin.key, engine: engine.ready(), close }, admin, webhookSecret: hooks }
  } catch (error) {
    await close()
    throw explained(error)
  }
}

/** What the operating system refused (a full disk, a folder of others) is the user's to put right, not a bug of ours. */
function explained(error: unknown): unknown {
  return error instanceof Error && 'syscall' in error ? new ConfigError(error.message, { cause: error }) : error
}

/** Headers are never logged by us; should a library log a request, its keys stay out. */
const createLog = (level: string) => pino({ level, redact: ['req.headers', '*.headers'] }, { write: writeLog })

/** Where nobody reads the log any more, its lines are dropped: pino's own destination would try again for ever, at exit too. */
function writeLog(line: string): void {
  try {
    writeSync(2, line)
  } catch {}
}

function openStore(config: Config, options: StoreOptions) {
  if (config.databaseUrl !== null)
    throw new ConfigError('MLX_TRAINING_DATABASE_URL is not supported by this version: unset it to use SQLite')
  return openSqliteStore(join(config.home, 'training.db'), options)
}

async function closeInReverse(opened: (() => unknown)[], log: Logger): Promise<void> {
  for (const close of opened.reverse())
    try {
      await close()
    } catch (error) {
      log.error({ err: error }, 'a part did not close')
    }
}

function closeOnSignals(close: () => Promise<void>, log: Logger): void {
  let asked = false
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    process.on(signal, () => {
      if (asked) process.exit(1)
      asked = true
      log.info({ signal }, 'closing')
      setTimeout(() => process.exit(1), SHUTDOWN_MS).unref()
      void close().then(() => process.exit(0))
    })
}

/** The command: reads the configuration, serves until a signal, says in one line what keeps it from it. */
export async function main(): Promise<void> {
  // Whoever started it may have closed the terminal, or the pipe: jobs go on without them.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  try {
    const { server, admin, webhookSecret } = await start(loadConfig(), { signals: true })
    console.log(`mlx-distributed-training ${VERSION} is listening on ${server.url}`)
    console.log(`Dashboard: ${server.url}/`)
    console.log(`API documentation: ${server.url}/docs`)
    console.log(aboutKey(admin))
    if (webhookSecret?.fresh)
      console.log(`Webhook secret, shown only now and kept in ${webhookSecret.file}: ${webhookSecret.secret}`)
    const engine = await server.engine
    if (engine.state === 'ready') console.log(`Engine: ${engine.device}, ${engine.backend}, ${engine.dtype}`)
    else console.log(`No engine, so no training and no local generation: ${engine.reason}`)
  } catch (error) {
    console.error(error instanceof ConfigError ? `mlx-distributed-training can't start: ${error.message}` : error)
    process.exit(1)
  }
}

function aboutKey({ key, file, fresh }: AdminKey): string {
  if (file === null) return 'Admin key: the one in MLX_TRAINING_API_KEY'
  return fresh ? `Admin key, shown only now and kept in ${file}: ${key}` : `Admin key: in ${file}`
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main()

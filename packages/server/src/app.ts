import { setMaxListeners } from 'node:events'
import { ROUTES } from '@mlx-training/contract'
import fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyRequest, LogController } from 'fastify'
import { createKeyCheck } from './auth/check.ts'
import { hashKey } from './auth/keys.ts'
import type { Config } from './config.ts'
import type { Library } from './datasets/library/port.ts'
import type { Datasets } from './datasets/port.ts'
import type { Engine } from './engine/port.ts'
import type { Evaluations } from './evaluation/port.ts'
import type { EventLog } from './events/port.ts'
import type { ClientPaths } from './files/port.ts'
import { limitArrival } from './http/arrival.ts'
import { compare } from './http/compare.ts'
import { datasets } from './http/datasets.ts'
import { BODY_LIMIT, clientError, refuseOddities, sendError } from './http/errors.ts'
import { evaluate } from './http/evaluate.ts'
import { files } from './http/files.ts'
import { fineTuning } from './http/fine-tuning.ts'
import { generate } from './http/generate.ts'
import { addGuards, isDocs } from './http/guards.ts'
import { health } from './http/health.ts'
import { acceptJsonOnly } from './http/json.ts'
import { keys } from './http/keys.ts'
import { measureAnswers, metricsText } from './http/metrics.ts'
import { models as listModels } from './http/models.ts'
import { OpenRequests } from './http/open-requests.ts'
import { openai } from './http/openai.ts'
import { addOpenApi } from './http/openapi.ts'
import { createReadiness, ready } from './http/readiness.ts'
import { requestId } from './http/request-id.ts'
import { type Handlers, registerRoutes } from './http/routes.ts'
import { securityHeaders } from './http/security-headers.ts'
import type { SseTimes } from './http/sse.ts'
import { train } from './http/train.ts'
import { schemaCompiler } from './http/validation.ts'
import { addWeb, sendNotFound } from './http/web.ts'
import type { JobChanges } from './jobs/changes.ts'
import type { JobService } from './jobs/port.ts'
import type { Sweeper } from './jobs/sweeper.ts'
import type { Metrics } from './metrics/metrics.ts'
import type { Models } from './models/port.ts'
import { oneParameter } from './openai/paths.ts'
import type { Providers } from './providers/index.ts'
import type { Store } from './store/port.ts'

export interface AppDeps {
  config: Config
  adminKey: string
  log: FastifyBaseLogger
  store: Pick<Store, 'key' | 'keys' | 'keyUsed' | 'insertKey' | 'revokeKey' | 'check' | 'answer'>
  jobs: JobService
  sweeper: Sweeper
  events: EventLog
  changes: JobChanges
  engine: Engine
  datasets: Datasets
  library: Library
  models: Models
  paths: ClientPaths
  providers: Providers
  evaluations: Evaluations
  metrics: Metrics
  sseTimes?: SseTimes
  /** Of the built dashboard; left out, where the build puts it. */
  webFolder?: string
}

/** A request must have arrived within this, files apart; its answer may take as long as it takes. */
const REQUEST_TIMEOUT_MS = 30_000

/** Answers that are being sent when the server closes get this long; a client that doesn't read is cut then. */
const CLOSE_GRACE_MS = 3000

/** The whole HTTP service, not listening. Closing it ends the event streams and generations that are open. */
export async function buildApp(deps: AppDeps): Promise<FastifyInstance> {
  const closing = new AbortController()
  setMaxListeners(0, closing.signal) // one for each open stream
  const app = fastify({
    loggerInstance: deps.log,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: requestId,
    bodyLimit: BODY_LIMIT,
    requestTimeout: 0,
    // Host is checked by a guard, which answers in our shape; Node looks for overdue requests every 5 s.
    http: { requireHostHeader: false, connectionsCheckingInterval: 5000 },
    routerOptions: { maxParamLength: 200 },
    rewriteUrl: ({ url = '/' }) => oneParameter(url),
    clientErrorHandler: clientError,
    frameworkErrors: (error, request, reply) => sendError(error, request, reply),
  })
  app.server.headersTimeout = REQUEST_TIMEOUT_MS
  app.setValidatorCompiler(schemaCompiler())
  // fast-json-stringify would drop every key that a schema doesn't name.
  app.setReplySerializer((answer) => `${JSON.stringify(answer)}\n`)
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply))
  app.setNotFoundHandler(sendNotFound(deps.webFolder))
  refuseOddities(app)
  acceptJsonOnly(app)
  const headers = securityHeaders()
  const docsHeaders = securityHeaders({ docs: true })
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(isDocs(request.url) ? docsHeaders : headers).header('x-request-id', request.id)
  })
  limitArrival(app, REQUEST_TIMEOUT_MS)
  const open = new OpenRequests()
  addGuards(app, deps.config, createKeyCheck(deps.store, hashKey(deps.adminKey)), open)
  logAnswers(app)
  measureAnswers(app, deps.metrics)
  app.addHook('preClose', async () => {
    closing.abort()
    setTimeout(() => app.server.closeAllConnections(), CLOSE_GRACE_MS).unref()
  })
  await addOpenApi(app)
  await addWeb(app, deps.webFolder)
  await registerRoutes(app, handlersOf(deps, closing.signal, open))
  await app.ready()
  return app
}

function handlersOf(deps: AppDeps, closing: AbortSignal, open: OpenRequests): Handlers {
  const readiness = createReadiness({ ...deps, home: deps.config.home })
  return {
    health: health(deps, readiness),
    ready: ready(readiness),
    metrics: metricsText(deps.metrics),
    ...keys({ ...deps, open }),
    ...train({ ...deps, closing }),
    ...datasets({ ...deps, closing }),
    models: listModels(deps),
    generate: generate({ ...deps, closing }),
    compare: compare({ ...deps, closing }),
    ...openai({ ...deps, closing }),
    ...files(deps),
    ...fineTuning({ ...deps, closing }),
    ...evaluate(deps),
    providers: async () => deps.providers.list(),
  }
}

/** By load balancers, monitors and dashboards, every second or so: told at debug, unless it failed. */
const POLLED = new Set<string>(
  [
    ROUTES.health,
    ROUTES.ready,
    ROUTES.metrics,
    ROUTES.trainStatus,
    ROUTES.trainList,
    ROUTES.trainHistory,
    ROUTES.fineTuningGet,
    ROUTES.fineTuningEvents,
  ].map(({ path }) => path),
)

/** One line an answer: no query, body, key or prompt in it. */
function logAnswers(app: FastifyInstance): void {
  app.addHook('onResponse', async (request, reply) => {
    const line = {
      method: request.method,
      path: request.url.split('?', 1)[0],
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime),
      ...jobOf(request),
      ...(request.principal && { key: request.principal.id }),
    }
    const polled = reply.statusCode < 400 && POLLED.has(request.routeOptions.url ?? '')
    request.log[polled ? 'debug' : 'info'](line, 'answered')
  })
}

const jobOf = ({ routeOptions, params }: FastifyRequest) =>
  routeOptions.url?.startsWith('/train/:name') ? { job: (params as { name: string }).name } : {}

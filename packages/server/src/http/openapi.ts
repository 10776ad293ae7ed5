import fastifySwagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import {
  ERRORS,
  ErrorBody,
  type ErrorCode,
  ROUTES,
  type Route,
  type RouteName,
  ServiceError,
  UploadQuery,
} from '@mlx-training/contract'
import type { FastifyInstance } from 'fastify'
import type { TSchema } from 'typebox'
import { openAIError, openAIStatus } from '../openai/errors.ts'
import { ERROR_EXAMPLE, EXAMPLES } from './examples.ts'
import { ROUTE_ENTRIES } from './routes.ts'
import { VERSION } from './version.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Of the route in the contract's table. */
    name?: RouteName
  }
}

export const TAGS: Record<Route['tag'], string> = {
  service: 'The service itself',
  keys: 'API keys and what they may do',
  training: 'Fine-tuning jobs',
  datasets: 'Data sets',
  generation: 'Text from base, fine-tuned and hosted models',
  models: 'Models that are here',
  openai: "OpenAI's API, as far as it is served here: for its SDKs, with /v1 as their base URL",
}

/** Bodies and answers of the table, each once, under the name that it has there. */
const COMPONENTS = new Map<string, TSchema>(
  [
    ErrorBody,
    ...ROUTE_ENTRIES.flatMap(([, { body, response, stream, events, error }]) => [
      body && asSent(body),
      response,
      stream,
      events,
      error,
    ]),
  ]
    .filter((schema) => schema !== undefined)
    .map((schema) => [idOf(schema), schema]),
)

function idOf(schema: TSchema): string {
  const { $id } = schema as { $id?: string }
  if ($id === undefined) throw new Error('A body or answer in the table of routes has no $id')
  return $id
}

/** Fields with a default are required after validation, which fills them in, but not of the client. */
function asSent(schema: TSchema): TSchema {
  const { properties, required } = schema as { properties?: Record<string, TSchema>; required?: string[] }
  if (!properties) return schema
  return {
    ...schema,
    required: required?.filter((name) => !('default' in (properties[name] ?? {}))),
    properties: Object.fromEntries(Object.entries(properties).map(([name, inner]) => [name, asSent(inner)])),
  }
}

/** Serves the OpenAPI 3.1 document at /openapi.json and Swagger UI, from its own files, at /docs. */
export async function addOpenApi(app: FastifyInstance): Promise<void> {
  for (const schema of COMPONENTS.values()) app.addSchema(schema)
  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'mlx-distributed-training',
        version: VERSION,
        description: 'Fine-tunes language models with LoRA, QLoRA or in full on MLX, and generates text with them.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
      components: {
        securitySchemes: {
          apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
          bearer: { type: 'http', scheme: 'bearer' },
        },
      },
    },
    convertConstToEnum: false,
    refResolver: { buildLocalReference: (json, _base, _fragment, i) => String(json.$id ?? `def-${i}`) },
    transform: ({ schema, url, route }) => {
      const name = route.config?.name
      return { url, schema: name ? operation(name, ROUTES[name]) : { ...schema, hide: true } }
    },
    transformObject: (document) => {
      if ('openapiObject' in document) addBodyExamples(document.openapiObject)
      return 'openapiObject' in document ? document.openapiObject : document.swaggerObject
    },
  })
  await app.register(fastifySwaggerUi, {
    routePrefix: '/docs',
    uiConfig: { url: '/openapi.json', persistAuthorization: false },
    // The bar above the page only offers to browse other documents, which the content security policy forbids.
    theme: {
      title: 'mlx-distributed-training: API',
      css: [{ filename: 'service.css', content: '.swagger-ui .topbar { display: none }' }],
    },
  })
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
}

function operation(name: RouteName, route: Route): object {
  const example = EXAMPLES[name]?.response
  return {
    operationId: name,
    summary: route.summary,
    tags: [route.tag],
    security: securityOf(route),
    ...(route.params && { params: route.params }),
    ...(route.querystring && { querystring: route.querystring }),
    ...(route.stream && { headers: route.params ? LAST_EVENT_ID : LAST_CHANGE_ID }),
    ...(route.idempotent && { headers: IDEMPOTENCY_KEY }),
    ...(route.body && { body: content('application/json', route.body) }),
    ...(route.upload && { body: route.form ? form(route.form) : UPLOAD }),
    response: {
      [route.status ?? 200]: {
        description: 'Success',
        ...answerOf(route, example),
      },
      ...Object.fromEntries(failuresOf(route).map((failure) => [failure.status, failure.answer])),
    },
  }
}

function answerOf({ text, file, stream, response, events }: Route, example?: object): object {
  if (text) return { content: { [text]: { schema: { type: 'string' } } } }
  if (file) return { content: { [file]: { schema: BYTES } } }
  if (events && response)
    return {
      content: {
        ...content('application/json', response, example).content,
        ...content('text/event-stream', events).content,
      },
    }
  return stream ? content('text/event-stream', stream) : content('application/json', response as TSchema, example)
}

type Transformed = Parameters<NonNullable<FastifyDynamicSwaggerOptions['transformObject']>>[0]
type Document = Extract<Transformed, { openapiObject: unknown }>['openapiObject']

/** The plugin drops what stands beside a reference, so the examples of bodies are set afterwards. */
function addBodyExamples({ paths }: Document): void {
  for (const [name, { path, method }] of ROUTE_ENTRIES) {
    const operation = paths?.[openApiPath(path)]?.[method === 'POST' ? 'post' : 'get']
    const media = operation?.requestBody && 'content' in operation.requestBody && operation.requestBody.content
    const body = EXAMPLES[name]?.body
    if (media && body && media['application/json']) media['application/json'].example = body
  }
}

/** `/train/:name` → `/train/{name}` */
export const openApiPath = (path: string): string => path.replaceAll(/:(\w+)/g, '{$1}')

const content = (type: string, schema: TSchema, example?: object) => ({
  content: { [type]: { schema: { $ref: `${idOf(schema)}#` }, ...(example && { example }) } },
})

const BYTES = { type: 'string', format: 'binary' }

const form = (fields: TSchema) => {
  const { properties, required = [] } = fields as { properties?: object; required?: string[] }
  const schema = { type: 'object', required: ['file', ...required], properties: { file: BYTES, ...properties } }
  return { content: { 'multipart/form-data': { schema } } }
}

/** A file as a form sends it, or its bytes alone; what the query takes may be sent as fields, too. */
const UPLOAD = {
  content: {
    ...form(UploadQuery).content,
    'application/octet-stream': { schema: BYTES },
  },
}

const LAST_EVENT_ID = {
  type: 'object',
  properties: {
    'Last-Event-ID': { type: 'integer', minimum: 0, description: 'Go on after this event; wins over ?after=' },
  },
}

/** Of a stream that is not one job's. */
const LAST_CHANGE_ID = {
  type: 'object',
  properties: {
    'Last-Event-ID': {
      type: 'string',
      description: 'Go on after this event; one of another start of the server: anew',
    },
  },
}

const IDEMPOTENCY_KEY = {
  type: 'object',
  properties: {
    'Idempotency-Key': {
      type: 'string',
      minLength: 1,
      maxLength: 255,
      description:
        'Unique to the request: sent again within 24 h it is not carried out again and gets the same answer, with ' +
        'Idempotent-Replayed: true',
    },
  },
}

function securityOf({ auth }: Route): object[] {
  if (auth === 'none') return []
  const keys = [{ apiKey: [] }, { bearer: [] }]
  return auth === 'optional' ? [{}, ...keys] : keys
}

/** By what the route takes and does; every route may also answer 403 (host, origin), 429 and 500. */
export function failureCodes(route: Route): ErrorCode[] {
  const codes: ErrorCode[] = ['forbidden', 'internal']
  if (route.auth !== 'none') codes.push('unauthorized', 'rate_limited')
  if (route.params) codes.push('not_found', 'unprocessable')
  if (route.method !== 'GET' && route.params) codes.push('conflict')
  if (route.querystring) codes.push('invalid_parameters', 'unprocessable')
  if (route.upload) codes.push('payload_too_large', 'insufficient_storage')
  if (route.body)
    codes.push('invalid_parameters', 'not_found', 'payload_too_large', 'unsupported_media_type', 'unprocessable')
  if (route.idempotent) codes.push('conflict', 'unavailable', 'insufficient_storage')
  if (route.path === ROUTES.trainEstimate.path) codes.push('unavailable')
  if (route.path === ROUTES.trainModel.path) codes.push('conflict')
  if (route.path === ROUTES.ready.path) codes.push('unavailable')
  if (route.scope === 'generate') codes.push('provider_error', 'unavailable', 'provider_timeout')
  return codes
}

function failuresOf(route: Route): { status: number; answer: object }[] {
  const codes = failureCodes(route)
  if (route.error)
    return shaped(
      codes.map((code) => new ServiceError(code, 'Error message')),
      route.error,
    )
  const statuses = [...new Set(codes.map((code) => ERRORS[code][0]))].sort()
  return statuses.map((status) => {
    const types = new Set(codes.filter((code) => ERRORS[code][0] === status).map((code) => ERRORS[code][1]))
    const description = [...types].join(', ')
    const example = { ...ERROR_EXAMPLE, status_code: status, error_type: [...types][0] }
    return { status, answer: { description, ...content('application/json', ErrorBody, example) } }
  })
}

/** The same in OpenAI's shape. */
function shaped(errors: ServiceError[], schema: TSchema): { status: number; answer: object }[] {
  return [...new Set(errors.map(openAIStatus))].sort().map((status) => {
    const bodies = errors.filter((error) => openAIStatus(error) === status).map((error) => openAIError(error))
    const description = [...new Set(bodies.map(({ error }) => error.code ?? error.type))].join(', ')
    return { status, answer: { description, ...content('application/json', schema, bodies[0]) } }
  })
}

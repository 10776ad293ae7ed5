import { readFileSync } from 'node:fs'
import { ErrorBody, ROUTES, type RouteName } from '@mlx-training/contract'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import ajvFormats from 'ajv-formats'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ERROR_EXAMPLE, EXAMPLES } from '../../src/http/examples.ts'
import { openApiPath } from '../../src/http/openapi.ts'
import { contractErrors, createService, type Service } from './service.ts'

interface Operation {
  operationId: string
  security: object[]
  parameters?: { name: string; in: string }[]
  requestBody?: { content: Record<string, { schema: { $ref: string }; example?: object }> }
  responses: Record<string, { content: Record<string, { schema: { $ref: string }; example?: object }> }>
}

let service: Service
let document: {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, object> }
}
beforeAll(async () => {
  service = await createService()
  document = (await service.call('GET', '/openapi.json', undefined, {})).body
})
afterAll(() => service.close())

const idOf = (schema: object) => (schema as { $id?: string }).$id
const operationOf = (name: RouteName) => {
  const { path, method } = ROUTES[name]
  return document.paths[openApiPath(path)]?.[method.toLowerCase()] as Operation
}
const names = Object.keys(ROUTES) as RouteName[]

test('the document is OpenAPI 3.1 by an independent validator', async () => {
  expect(document.openapi).toMatch(/^3\.1/)
  const { valid, errors } = await new Validator().validate(structuredClone(document))
  expect(errors).toBeUndefined()
  expect(valid).toBe(true)
})

test('it has the routes of the table, and no other', () => {
  const documented = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { operationId }]) => `${operationId} ${method.toUpperCase()} ${path}`),
  )
  const table = names.map((name) => `${name} ${ROUTES[name].method} ${openApiPath(ROUTES[name].path)}`)
  expect(documented.sort()).toEqual(table.sort())
})

test('the server answers the routes of the table', () => {
  for (const name of names) {
    const { method, path: url } = ROUTES[name]
    expect(service.app.hasRoute({ method, url }), name).toBe(true)
  }
})

describe.each(names)('%s', (name) => {
  const route = ROUTES[name]

  test('body, answer, parameters and keys are those of the table', () => {
    const operation = operationOf(name)
    const reference = (schema: object) => ({ $ref: `#/components/schemas/${idOf(schema)}` })
    const body = 'body' in route ? reference(route.body) : undefined
    expect(operation.requestBody?.content['application/json']?.schema).toEqual(body)
    const good = String('status' in route ? route.status : 200)
    const content = operation.responses[good]?.content
    if ('response' in route) expect(content?.['application/json']?.schema).toEqual(reference(route.response))
    if ('stream' in route) expect(content?.['text/event-stream']?.schema).toEqual(reference(route.stream))
    const parameters = [
      ...('params' in route ? Object.keys(route.params.properties) : []),
      ...('querystring' in route ? Object.keys(route.querystring.properties) : []),
      ...('stream' in route ? ['Last-Event-ID'] : []),
      ...('idempotent' in route ? ['Idempotency-Key'] : []),
    ]
    expect((operation.parameters ?? []).map((parameter) => parameter.name).sort()).toEqual(parameters.sort())
    expect(operation.security.some((one) => Object.keys(one).length === 0)).toBe(route.auth === 'optional')
    expect(operation.security.length).toBe({ none: 0, optional: 3, required: 2 }[route.auth])
    const failures = Object.entries(operation.responses).filter(([status]) => status !== good)
    expect(failures.length).toBeGreaterThan(1)
    for (const [, answer] of failures)
      expect(answer.content['application/json']?.schema).toEqual(reference('error' in route ? route.error : ErrorBody))
  })

  test('its example answer is one by the contract', () => {
    const example = EXAMPLES[name]?.response
    if (example) expect(contractErrors(name, example)).toEqual([])
  })

  test('its example request is one by the document', () => {
    const example = operationOf(name)?.requestBody?.content['application/json']?.example
    expect(example).toEqual(EXAMPLES[name]?.body)
    if (example) expect(documentErrors('body' in route ? (idOf(route.body) ?? '') : '', example)).toEqual([])
  })
})

/** By the document alone, as a client would read it. */
function documentErrors(component: string, value: unknown): unknown[] {
  const ajv = ajvFormats.default(new Ajv2020({ strict: false, allErrors: true }))
  const check = ajv.compile({ components: document.components, $ref: `#/components/schemas/${component}` })
  return check(value) ? [] : (check.errors ?? [])
}

test('fields with a default are not required of a client', () => {
  const least = { experiment_name: 'a', model_name: 'm', dataset: { dataset_path: 'd' } }
  expect(documentErrors('StartRequest', least)).toEqual([])
  expect(documentErrors('StartRequest', { ...least, dataset: {} })).not.toEqual([])
  expect(documentErrors('GenerateRequest', { prompt: 'x' })).toEqual([])
  expect(documentErrors('Error', ERROR_EXAMPLE)).toEqual([])
})

test('the examples are those that the API reference prints', () => {
  const reference = readFileSync(new URL('../../../../docs/api-contract.md', import.meta.url), 'utf8')
  const printed = [...reference.matchAll(/\*\*Request Body:\*\*\n```json\n([\s\S]*?)```/g)].map(([, json]) =>
    JSON.parse(json ?? ''),
  )
  const shown = names.flatMap((name) => ('error' in ROUTES[name] ? [] : (EXAMPLES[name]?.body ?? [])))
  expect(shown).toEqual(expect.arrayContaining(printed))
  expect(printed).toHaveLength(shown.length)
})

describe('/docs', () => {
  test('its page, script and styles come from here, under a policy that lets in nothing else', async () => {
    const page = await service.call('GET', '/docs', undefined, {})
    expect(page.status).toBe(200)
    const files = [...String(page.body).matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file]) => file ?? '')
    expect(files.length).toBeGreaterThan(3)
    for (const file of files) {
      expect(file).toMatch(/^\/docs\//)
      expect((await service.call('GET', file, undefined, {})).status, file).toBe(200)
    }
    const policy = String(page.headers['content-security-policy'])
    expect(policy).toContain("default-src 'self'")
    expect(policy).not.toMatch(/https:|unsafe-eval|upgrade-insecure/)
    const initializer = await service.call('GET', '/docs/static/swagger-initializer.js', undefined, {})
    expect(initializer.body).toContain('/openapi.json')
  })
})

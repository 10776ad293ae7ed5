/** docs/api.md, made from the contract. */
import {
  ERRORS,
  ErrorBody,
  type ErrorCode,
  ROUTES,
  type Route,
  type RouteName,
  ServiceError,
} from '@mlx-training/contract'
import { EXAMPLES } from '../../packages/server/src/http/examples.ts'
import { failureCodes, TAGS } from '../../packages/server/src/http/openapi.ts'
import { openAIStatus } from '../../packages/server/src/openai/errors.ts'
import { compact } from './json.ts'
import { fieldTable, type Schema, type Told } from './schema.ts'
import { snippetsOf } from './snippets.ts'

const INTRODUCTION = `# API reference

Made from the contract (\`packages/contract\`) by \`npm run docs:api\`; a test fails when it is out of date, and every example is
run against a server (\`test/e2e/api-docs.test.ts\`). The same is at \`/docs\` and \`/openapi.json\` of a running server.
[What the API promises](api-contract.md), [training parameters](training.md), [data sets](datasets.md),
[evaluation](evaluation.md) and [OpenAI's API](openai.md) tell what is behind the fields.

The examples begin with

\`\`\`bash
URL=http://127.0.0.1:8200
KEY=$(cat data/admin.key)
\`\`\`

in a shell, and in Node, with [the SDK](../packages/sdk/README.md) or OpenAI's, with

\`\`\`js
import { MlxTraining } from '@mlx-training/sdk'
import OpenAI from 'openai'

const client = new MlxTraining({ baseURL: 'http://127.0.0.1:8200', apiKey: process.env.MLX_TRAINING_API_KEY })
const openai = new OpenAI({ baseURL: 'http://127.0.0.1:8200/v1', apiKey: process.env.MLX_TRAINING_API_KEY })
\`\`\`

and in Python with

\`\`\`python
import os
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8200/v1", api_key=os.environ["MLX_TRAINING_API_KEY"])
\`\`\`

## Keys and scopes
A key goes into \`X-API-Key\`, or into \`Authorization: Bearer\`. The scope \`admin\` includes the others, \`train\` and \`generate\`
include \`read\`. "Key: optional" means that the route works without one, unless \`MLX_TRAINING_REQUIRE_AUTH\` is set; a key that
is sent must be valid all the same.

## Errors
Every error outside of \`/v1\` is JSON of this shape, with the status that it names:

${fieldTable(ErrorBody as Schema, false)}

Any route may also answer 403 to a foreign Host or Origin, 429 with \`Retry-After\` after many wrong keys, and 500. Errors under
\`/v1\` have OpenAI's shape: \`{"error": {"message", "type", "param", "code"}}\`.
`

export function apiDocument(): string {
  const told: Tables = { sent: new Map(), answers: new Map() }
  const names = Object.keys(ROUTES) as RouteName[]
  const sections = Object.entries(TAGS).map(([tag, title]) => {
    const own = names.filter((name) => ROUTES[name].tag === tag)
    return [`## ${title}`, ...own.map((name) => routeSection(name, told))].join('\n\n')
  })
  return `${[INTRODUCTION, ...sections].join('\n').trimEnd()}\n`
}

/** What was told already of what is sent, and of what is answered. */
interface Tables {
  sent: Told
  answers: Told
}

function routeSection(name: RouteName, told: Tables): string {
  const route: Route = ROUTES[name]
  const { method, path, summary, auth, scope, params, querystring, body } = route
  const title = `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`
  const sent = (schema: object) => fieldTable(schema as Schema, true, title, told.sent)
  const key = auth === 'none' ? 'none' : `${auth}, with the scope \`${scope}\``
  return [
    `### ${title}`,
    `${summary}. Key: ${key}.${route.idempotent ? ' Takes an `Idempotency-Key`.' : ''}`,
    ...(params ? [sent(params)] : []),
    ...(querystring ? ['Query:', sent(querystring)] : []),
    ...(route.upload ? [uploadText(route)] : []),
    ...(body ? ['Body:', sent(body)] : []),
    ...snippetsOf(name).map(({ language, title, code }) => `${title}:\n\n\`\`\`${language}\n${code}\n\`\`\``),
    ...answer(name, route, (schema) => fieldTable(schema as Schema, false, title, told.answers)),
    `Errors: ${errorsOf(route)}.`,
  ].join('\n\n')
}

function uploadText({ form, querystring }: Route): string {
  if (!form)
    return `Body: the bytes of the file, or a form with it as \`file\`${querystring ? ' and the fields of the query beside it' : ''}.`
  return `Body: a form with the file as \`file\` and these fields:\n\n${fieldTable(form as Schema, true)}`
}

function answer(
  name: RouteName,
  { status, response, stream, events, text, file }: Route,
  fields: (schema: object) => string,
): string[] {
  const example = EXAMPLES[name]?.response
  const good = status ?? 200
  if (text ?? file) return [`Answer: ${good}, \`${text ?? file}\`.`]
  return [
    ...(response ? [`Answer: ${good},`, fields(response)] : []),
    ...(stream ? [`Answer: ${good}, \`text/event-stream\`; each event's data is`, fields(stream)] : []),
    ...(events ? ['With `"stream": true` a `text/event-stream` instead; each event\'s data is', fields(events)] : []),
    ...(example ? [`For instance:\n\n\`\`\`json\n${compact(example)}\n\`\`\``] : []),
  ]
}

function errorsOf(route: Route): string {
  const told = (code: ErrorCode) =>
    route.error ? `${openAIStatus(new ServiceError(code, ''))}` : `${ERRORS[code][0]} \`${ERRORS[code][1]}\``
  return [...new Set(failureCodes(route).map(told))].sort().join(', ')
}

/** A request as others would send it. The key is named, never written out. */
import type { GenerateInput } from '@mlx-training/sdk'

export function samplesOf(request: GenerateInput, origin: string): { label: string; code: string }[] {
  return [
    { label: 'curl', code: curl(request, origin) },
    { label: 'SDK', code: sdk(request, origin) },
    { label: 'OpenAI, Python', code: python(request, origin) },
    { label: 'OpenAI, Node', code: node(request, origin) },
  ]
}

const json = (value: unknown) => JSON.stringify(value, null, 2)

function curl(request: GenerateInput, origin: string): string {
  const body = json({ ...request, stream: true }).replaceAll("'", "'\\''")
  return `curl -N ${origin}/generate \\
  -H "X-API-Key: $MLX_TRAINING_API_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${body}'`
}

function sdk(request: GenerateInput, origin: string): string {
  return `import { MlxTraining } from '@mlx-training/sdk'

const client = new MlxTraining({
  baseURL: '${origin}',
  apiKey: process.env.MLX_TRAINING_API_KEY,
})
const answer = client.generate.stream(${script(request)})
for await (const { text } of answer) process.stdout.write(text)
console.log(answer.end)`
}

/** What OpenAI's own client has no name for goes beside its arguments. */
const BESIDE = ['top_k', 'min_p', 'repetition_penalty']

function split({
  raw: _,
  ...request
}: GenerateInput): [named: Record<string, unknown>, beside: Record<string, unknown>] {
  const entries = Object.entries(request)
  return [
    Object.fromEntries(entries.filter(([name]) => !BESIDE.includes(name))),
    Object.fromEntries(entries.filter(([name]) => BESIDE.includes(name))),
  ]
}

function python(request: GenerateInput, origin: string): string {
  const [named, beside] = split(request)
  // Strings, numbers, lists and objects of these are the same in both languages.
  const given = Object.entries(named).map(([name, value]) => `    ${name}=${json(value).replaceAll('\n', '\n    ')},\n`)
  const extra = Object.keys(beside).length > 0 ? `    extra_body=${JSON.stringify(beside)},\n` : ''
  return `import os
from openai import OpenAI

client = OpenAI(
    base_url="${origin}/v1",
    api_key=os.environ["MLX_TRAINING_API_KEY"],
)
stream = client.${request.raw ? 'completions' : 'chat.completions'}.create(
${given.join('')}${extra}    stream=True,
)
for chunk in stream:
    print(${request.raw ? 'chunk.choices[0].text' : 'chunk.choices[0].delta.content or ""'}, end="")`
}

function node(request: GenerateInput, origin: string): string {
  const { raw: _, ...rest } = request
  return `import OpenAI from 'openai'

const client = new OpenAI({
  baseURL: '${origin}/v1',
  apiKey: process.env.MLX_TRAINING_API_KEY,
})
const stream = await client.${request.raw ? 'completions' : 'chat.completions'}.create(${script({ ...rest, stream: true })})
for await (const chunk of stream)
  process.stdout.write(${request.raw ? 'chunk.choices[0].text' : "chunk.choices[0]?.delta.content ?? ''"})`
}

/** JSON as people write it in scripts: names without quotes. */
const script = (value: unknown) => json(value).replaceAll(/^(\s*)"(\w+)":/gm, '$1$2:')

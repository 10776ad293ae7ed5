import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { blocksOf } from '../src/pages/playground/blocks.ts'
import { samplesOf } from '../src/pages/playground/code-samples.ts'
import { besideBase, choicesOf, naming } from '../src/pages/playground/models.ts'
import { problemOf } from '../src/pages/playground/settings.ts'

test('an answer is text and fenced code; a fence that is open lasts to the end, so that streams look right', () => {
  expect(blocksOf('Do this:\n\n```bash\ncurl <b>\n\nls\n```\nThen wait.')).toEqual([
    { kind: 'text', text: 'Do this:' },
    { kind: 'code', text: 'curl <b>\n\nls' },
    { kind: 'text', text: 'Then wait.' },
  ])
  expect(blocksOf('```js\nlet a')).toEqual([{ kind: 'code', text: 'let a' }])
  expect(blocksOf('````\n```\n````')).toEqual([{ kind: 'code', text: '```' }])
  expect(blocksOf('A ``` in a line')).toEqual([{ kind: 'text', text: 'A ``` in a line' }])
})

const REQUEST = {
  model: 'fine-tuned/mine',
  messages: [{ role: 'user' as const, content: 'It\'s "$HOME" `x`, \\n and\na line' }],
  temperature: 0.5,
  top_k: 5,
  stop: ["'"],
}
const codeOf = (label: string, request: object = REQUEST) =>
  samplesOf(request, 'http://host:8200').find((sample) => sample.label === label)?.code ?? ''

test('the curl command, run by a shell, sends the request as it is', () => {
  const shell = `curl() { printf %s "\${!#}"; }\n${codeOf('curl')}`
  expect(JSON.parse(execFileSync('bash', ['-c', shell], { encoding: 'utf8' }))).toEqual({ ...REQUEST, stream: true })
})

test('the scripts for SDKs are in their language', () => {
  for (const label of ['SDK', 'OpenAI, Node'])
    execFileSync(process.execPath, ['--check', '--input-type=module'], { input: codeOf(label) })
  execFileSync('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: codeOf('OpenAI, Python') })
  expect(codeOf('OpenAI, Python')).toContain('extra_body={"top_k":5}')
  expect(codeOf('OpenAI, Python', { model: 'm', prompt: 'Once', raw: true })).toContain('client.completions.create(')
})

test('what is wrong with a parameter is said in words', () => {
  expect(problemOf('temperature', '0.5')).toBeNull()
  expect(problemOf('temperature', '')).toBe('Enter a number')
  expect(problemOf('top_p', '0')).toBe('More than 0, at most 1')
  expect(problemOf('max_tokens', '1.5')).toBe('Enter a whole number')
  expect(problemOf('seed', '')).toBeNull()
  expect(problemOf('min_p', 'x')).toBe('Enter a number')
})

test('models to choose from; a tuned one opens beside its base, checkpoints too', () => {
  const model = { architecture: 'llama', quantization: null, size_bytes: 1, serving_verified: true, checkpoints: [] }
  const tuned = 'fine-tuned/mine'
  const choices = choicesOf(
    {
      models: [
        { ...model, id: 'Base', source: 'bundled', base_model: null },
        { ...model, id: tuned, source: 'fine_tuned', base_model: 'Base', checkpoints: [`${tuned}@step-2`] },
      ],
    },
    {
      available_providers: [],
      current_provider: {
        active_provider: 'LocalMLXProvider',
        available_providers: [
          { name: 'OpenAIProvider', available: true, state: 'available', checked_at: null, models: ['gpt'] },
          { name: 'AnthropicProvider', available: false, state: 'no_key', checked_at: null, reason: 'set A_KEY' },
        ],
      },
    },
  )
  expect(choices.groups).toEqual([
    { label: 'Fine-tuned here', models: [tuned, `${tuned}@step-2`] },
    { label: 'Base models', models: ['Base'] },
    { label: 'OpenAI', models: ['openai/gpt'] },
  ])
  expect(choices.absent).toEqual([{ label: 'Anthropic', reason: 'set A_KEY' }])
  expect(choices.first).toBe(tuned)
  expect(besideBase([tuned], choices)).toEqual(['Base', tuned])
  expect(besideBase([`${tuned}@step-2`], choices)).toEqual(['Base', `${tuned}@step-2`])
  expect(besideBase([tuned, 'openai/gpt'], choices)).toEqual([tuned, 'openai/gpt'])
  expect(naming(`${tuned}@step-2`)).toEqual({ name: 'mine@step-2', kind: 'checkpoint' })
})

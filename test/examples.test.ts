import { readFileSync } from 'node:fs'
import {
  DatasetParams,
  DEFAULT_TARGET_MODULES,
  JOB_STATES,
  LoraParams,
  PROVIDERS,
  ROUTES,
  StartRequest,
} from '@mlx-training/contract'
import { expect, test } from 'vitest'
import { loadConfig } from '../packages/server/src/config.ts'

// The bundled data sets teach facts about this very service: what they say must be what it does.
const read = (name: string) => readFileSync(new URL(`../examples/${name}.json`, import.meta.url), 'utf8')
const alpaca = (name: string) => JSON.parse(read(name)) as { instruction: string; input?: string; output: string }[]
const training = alpaca('service_alpaca')
const heldOut = alpaca('service_alpaca_eval')
const everything = ['service_alpaca', 'service_alpaca_eval', 'service_sharegpt'].map(read).join('\n')

const defaultOf = (schema: { properties: object }, name: string) =>
  ((schema.properties as Record<string, unknown>)[name] as { default: unknown }).default

test.each([
  [/default LoRA rank is (\S+?)\. /g, defaultOf(LoraParams, 'lora_r')],
  [/default LoRA alpha is (\S+?)\. /g, defaultOf(LoraParams, 'lora_alpha')],
  [/default LoRA dropout is (\S+?)\. /g, defaultOf(LoraParams, 'lora_dropout')],
  [/default number of epochs is (\S+?)\./g, defaultOf(StartRequest, 'epochs')],
  [/default learning rate is (\S+?)\./g, defaultOf(StartRequest, 'learning_rate')],
  [/default batch size is (\S+?)\./g, defaultOf(DatasetParams, 'batch_size')],
  [/default max_seq_length is (\S+?) tokens/g, defaultOf(DatasetParams, 'max_seq_length')],
  [/listens on port (\d+)/g, loadConfig({}).port],
])('%s is the default', (pattern, value) => {
  const said = [...everything.matchAll(pattern)].map(([, number]) => Number(number))
  expect(said.length).toBeGreaterThan(3)
  expect(new Set(said)).toEqual(new Set([Number(value)]))
})

test('the lists that they tell are the contract’s', () => {
  const list = (values: readonly string[]) => `${values.slice(0, -1).join(', ')} and ${values.at(-1)}`
  expect(everything).toContain(list(DEFAULT_TARGET_MODULES))
  expect(everything).toContain(list(PROVIDERS))
  expect(everything).toContain(`${JOB_STATES.slice(0, -1).join(', ')} or ${JOB_STATES.at(-1)}`)
})

test('every endpoint that they name exists', () => {
  const known = new Set<string>(
    Object.values(ROUTES).map(({ method, path }) => `${method} ${path.replace(':name', 'NAME')}`),
  )
  known.add('GET /openapi.json')
  const named = [...everything.matchAll(/\b(GET|POST|DELETE|PUT) (\/[\w/.]*\w)/g)].map(([text]) => text)
  expect(named.length).toBeGreaterThan(50)
  expect([...new Set(named)].filter((name) => !known.has(name))).toEqual([])
})

test('there are at least 200 rows, and a tenth beside them that training never shows', () => {
  expect(training.length).toBeGreaterThanOrEqual(200)
  expect(heldOut.length).toBeGreaterThanOrEqual(training.length / 10)
  const question = (row: { instruction: string; input?: string }) =>
    `${row.instruction}\n${row.input ?? ''}`.toLowerCase()
  const shown = new Set(training.map(question))
  expect(heldOut.map(question).filter((text) => shown.has(text))).toEqual([])
})

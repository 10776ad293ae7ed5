import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

// Imports go one way: each folder of the server may use those in the lines above its own (docs/architecture.md).
// Types of a port.ts are vocabulary and may be used anywhere.
const LAYERS = [
  ['config', 'files', 'metrics'],
  ['store'],
  ['events', 'auth', 'datasets'],
  ['engine'],
  ['models'],
  ['jobs'],
  ['webhooks'],
  ['providers'],
  ['evaluation'],
  ['openai'],
  ['http'],
  ['app'],
  ['main'],
  ['index'],
]
const SERVER = fileURLToPath(new URL('../packages/server/src', import.meta.url))
const CONTRACT = fileURLToPath(new URL('../packages/contract/src', import.meta.url))

const SDK = fileURLToPath(new URL('../packages/sdk/src', import.meta.url))

const sources = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file))
const moduleOf = (file: string) => relative(SERVER, file).split(/[/.]/)[0] ?? ''
const rank = (module: string) => LAYERS.findIndex((layer) => layer.includes(module))

function imports(file: string): { target: string; typeOnly: boolean }[] {
  const pattern = /^(?:import|export)\s+(type\s)?[^'"]*?from\s+'([^']+)'/gms
  return [...readFileSync(file, 'utf8').matchAll(pattern)].map(([, type, target]) => ({
    target: target ?? '',
    typeOnly: type !== undefined,
  }))
}

test('every folder of the server has its layer', () => {
  expect(
    sources(SERVER)
      .map(moduleOf)
      .filter((module) => rank(module) < 0),
  ).toEqual([])
})

test('imports between the server’s folders go one way', () => {
  const wrong = sources(SERVER).flatMap((file) =>
    imports(file)
      .filter(({ target }) => target.startsWith('.'))
      .filter(({ target, typeOnly }) => !(typeOnly && target.endsWith('/port.ts')))
      .map(({ target }) => moduleOf(resolve(dirname(file), target)))
      .filter((module) => module !== moduleOf(file) && rank(module) >= rank(moduleOf(file)))
      .map((module) => `${relative(SERVER, file)} → ${module}`),
  )
  expect(wrong).toEqual([])
})

test('the contract imports nothing but its schema library: it runs in browsers', () => {
  const foreign = sources(CONTRACT)
    .flatMap(imports)
    .map(({ target }) => target)
    .filter((target) => !target.startsWith('./') && target !== 'typebox')
  expect(foreign).toEqual([])
})

test('only the engine’s folder holds Python, and only the server’s engine folder starts processes', () => {
  const spawning = sources(SERVER)
    .filter((file) => imports(file).some(({ target }) => target === 'node:child_process'))
    .map(moduleOf)
  expect(new Set(spawning)).toEqual(new Set(['engine']))
})

test('the SDK takes only types from the contract, so that nothing comes with it into browsers', () => {
  const foreign = sources(SDK)
    .flatMap(imports)
    .filter(({ target }) => !target.startsWith('.'))
  expect(foreign.filter(({ typeOnly }) => !typeOnly)).toEqual([])
  expect(new Set(foreign.map(({ target }) => target))).toEqual(new Set(['@mlx-training/contract']))
})

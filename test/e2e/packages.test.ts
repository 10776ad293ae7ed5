import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createContext, runInContext } from 'node:vm'
import { ROUTES, type RouteName } from '@mlx-training/contract'
import { build } from 'vite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { snippetsOf } from '../api-docs/snippets.ts'
import { KEY, ROOT, Server, workFolder } from './support.ts'

// What npm would publish, in an empty folder: installed from the packed files, run, typed, and bundled for a browser.
const run = promisify(execFile)
const folder = workFolder()
const empty = join(folder.path, 'empty')
let server: Server

beforeAll(async () => {
  const packages = ['contract', 'sdk', 'cli'].map((name) => join(ROOT, 'packages', name))
  await run('npm', ['pack', '--pack-destination', folder.path, ...packages])
  const packed = readdirSync(folder.path).filter((file) => file.endsWith('.tgz'))
  expect(packed).toHaveLength(3)
  mkdirSync(empty)
  writeFileSync(join(empty, 'package.json'), '{ "private": true, "type": "module" }')
  const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packed.map((file) => join('..', file))]
  // No engine: nothing here trains.
  const [started] = await Promise.all([
    Server.start(folder.path, { MLX_TRAINING_PYTHON: 'no-python-here' }),
    run('npm', install, { cwd: empty }),
  ])
  server = started
}, 120_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

test('the packages hold what runs, and nothing else', () => {
  for (const name of ['contract', 'sdk', 'cli']) {
    const files = readdirSync(join(empty, 'node_modules', '@mlx-training', name), { recursive: true, encoding: 'utf8' })
    const odd = files.filter(
      (file) => !/^(dist|bin)?[\w/-]*$|\.(d\.ts|js|mjs)$|^package\.json$|^README\.md$/.test(file),
    )
    expect(odd, name).toEqual([])
  }
})

test('the command is there by npx, and speaks to a server', async () => {
  const mlx = async (...args: string[]) =>
    (
      await run('npx', ['--no-install', 'mlx-training', ...args], {
        cwd: empty,
        env: { ...process.env, MLX_TRAINING_URL: server.url, MLX_TRAINING_API_KEY: KEY },
      })
    ).stdout
  const { version } = JSON.parse(readFileSync(join(ROOT, 'packages', 'cli', 'package.json'), 'utf8'))
  expect(await mlx('--version')).toBe(`${version}\n`)
  expect(await mlx('--help')).toMatch(/^ {2}evaluate .*\n[\s\S]*^ {2}keys /m)
  expect(JSON.parse(await mlx('list', '--json'))).toEqual([])
}, 60_000)

test('the SDK is typed, for every example of docs/api.md', async () => {
  const names = Object.keys(ROUTES) as RouteName[]
  const calls = names.flatMap((name) => snippetsOf(name).filter(({ title }) => title === 'SDK'))
  expect(calls.length).toBeGreaterThan(30)
  const wrong = '// @ts-expect-error: what is no field is told\nclient.train.start({ experiment_name: 1 })'
  const code = [
    "import { MlxTraining, NotFoundError } from '@mlx-training/sdk'",
    'declare function openAsBlob(path: string): Promise<Blob>',
    'export const client = new MlxTraining({ apiKey: "key" })',
    'export const isGone = (error: unknown): string | null => (error instanceof NotFoundError ? error.requestId : null)',
    ...calls.map(({ code }, nth) => `export async function call${nth}() {\n${code.replace(/^import .*\n/, '')}\n}`),
    wrong,
  ].join('\n')
  writeFileSync(join(empty, 'typed.ts'), code)
  const options = { module: 'nodenext', target: 'es2022', lib: ['ES2023', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'] }
  const config = { compilerOptions: { ...options, strict: true, noEmit: true, types: [] }, files: ['typed.ts'] }
  writeFileSync(join(empty, 'tsconfig.json'), JSON.stringify(config))
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  const { stdout } = await run(process.execPath, [tsc, '-p', empty]).catch((error) => error)
  expect(stdout).toBe('')
}, 60_000)

test('the SDK runs where there is nothing of Node', async () => {
  const entry = join(empty, 'entry.js')
  writeFileSync(entry, "export { MlxTraining } from '@mlx-training/sdk'")
  const bundled = await build({
    configFile: false,
    root: empty,
    logLevel: 'silent',
    build: { write: false, minify: false, lib: { entry, formats: ['iife'], name: 'sdk' } },
  })
  const [output] = [bundled].flat() as { output: { code: string }[] }[]
  const code = output?.output[0]?.code ?? ''
  expect(code).toContain('/train/start')
  expect(code).not.toMatch(/["'`]node:|browser-external|\brequire\(|\bprocess\.|\bBuffer\b|typebox/i)
  const {
    fetch,
    URL,
    URLSearchParams,
    Headers,
    Response,
    ReadableStream,
    AbortController,
    AbortSignal,
    TextDecoder,
    crypto,
  } = globalThis
  const browser = {
    fetch,
    URL,
    URLSearchParams,
    Headers,
    Response,
    ReadableStream,
    AbortController,
    AbortSignal,
    TextDecoder,
    crypto,
    setTimeout,
    clearTimeout,
  }
  const context = createContext({ ...browser, options: { baseURL: server.url, apiKey: KEY } })
  const ask = `${code};
    const client = new sdk.MlxTraining(options)
    Promise.all([client.keys.own(), client.datasets.upload('{"text": "a"}', { name: 'a.jsonl' }), client.train.events('nobody').next().catch(({ name }) => name)])`
  const [own, dataset, refused] = await runInContext(ask, context)
  expect(own.may).toContain('admin')
  expect(dataset.rows).toBe(1)
  expect(refused).toBe('NotFoundError')
}, 60_000)

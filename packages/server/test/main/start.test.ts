import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Config, ConfigError, loadConfig, type RunningServer, startServer } from '../../src/index.ts'

let folder: string
const running: RunningServer[] = []
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mlx-training-main-'))
})
afterEach(async () => {
  for (const server of running.splice(0)) await server.close()
  rmSync(folder, { recursive: true, force: true })
})

const config = (env: Record<string, string> = {}): Config =>
  loadConfig({ PORT: '0', MLX_TRAINING_PYTHON: 'no-python-here', HF_HUB_OFFLINE: '1', ...env }, folder)

async function start(env: Record<string, string> = {}): Promise<RunningServer> {
  const server = await startServer(config(env), { log: pino({ level: 'silent' }) })
  running.push(server)
  return server
}

/** One line that a user can act on. */
async function refused(env: Record<string, string>, message: RegExp): Promise<void> {
  const error = await start(env).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(ConfigError)
  expect((error as Error).message).toMatch(message)
  expect((error as Error).message).not.toContain('\n')
}

test('serves without an engine, with the key that it made; closes and starts again', async () => {
  const server = await start()
  expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
  expect(await server.engine).toMatchObject({ state: 'unavailable' })
  const list = (key: string) => fetch(`${server.url}/train`, { headers: { 'x-api-key': key } })
  expect((await list(server.adminKey)).status).toBe(200)
  expect((await list('another')).status).toBe(401)
  expect(readFileSync(join(folder, 'data', 'admin.key'), 'utf8').trim()).toBe(server.adminKey)
  await server.close()
  await server.close()
  await expect(list(server.adminKey)).rejects.toThrow()
  expect((await start()).adminKey).toBe(server.adminKey)
})

test('a port that is taken: by whom, and what to do; nothing is left behind', async () => {
  const other = createServer()
  await new Promise<void>((listening) => other.listen(0, '127.0.0.1', listening))
  const port = String((other.address() as { port: number }).port)
  const who = process.platform === 'linux' ? `.*pid ${process.pid}` : ''
  await refused({ PORT: port }, new RegExp(`port ${port} is in use${who}.*set PORT`))
  other.close()
  await start({ PORT: port })
})

test('a bind that others can reach needs a key of the operator', async () => {
  await refused({ HOST: '0.0.0.0' }, /HOST=0\.0\.0\.0.*MLX_TRAINING_API_KEY/)
  await refused({ HOST: '::' }, /MLX_TRAINING_API_KEY/)
  const server = await start({ HOST: '0.0.0.0', MLX_TRAINING_API_KEY: 'mine' })
  expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:/)
  expect((await fetch(`${server.url}/train`, { headers: { authorization: 'Bearer mine' } })).status).toBe(200)
})

test('a home that can not be one', async () => {
  writeFileSync(join(folder, 'file'), '')
  await refused({ MLX_TRAINING_HOME: 'file/home' }, /file\/home.*MLX_TRAINING_HOME/)
})

test('a home that another server uses', async () => {
  await start()
  await refused({}, /Another server is using .*MLX_TRAINING_HOME/)
})

test('an address that is none of this machine', async () => {
  await refused({ HOST: '192.0.2.1', MLX_TRAINING_API_KEY: 'mine' }, /HOST=192\.0\.2\.1 is no address/)
})

test('a database that is not supported', async () => {
  await refused({ MLX_TRAINING_DATABASE_URL: 'postgres://x/y' }, /MLX_TRAINING_DATABASE_URL/)
})

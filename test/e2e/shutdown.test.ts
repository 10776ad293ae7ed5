import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { enginesOf } from '../../packages/server/src/engine/orphans.ts'
import { ALPACA, makeTinyModel, ROOT, Server, workFolder } from './support.ts'

// How the real server ends when it is asked to, and when it does not even begin.
let folder: ReturnType<typeof workFolder>
let server: Server

beforeEach(async () => {
  folder = workFolder()
  makeTinyModel(join(folder.path, 'tiny'))
  server = await Server.start(folder.path)
}, 60_000)
afterEach(async () => {
  await server.stop()
  folder.remove()
}, 60_000)

const start = () =>
  server.request('POST', '/train/start', {
    experiment_name: 'one',
    model_name: './tiny',
    epochs: 1000,
    save_steps: 100_000,
    lora: { use_lora: true, lora_r: 4, lora_alpha: 8, lora_dropout: 0.1 },
    dataset: { dataset_path: ALPACA, batch_size: 2, max_seq_length: 64 },
  })

const engines = () => enginesOf(join(folder.path, 'home'))

test('SIGTERM: out within 25 s with a checkpoint of the last step or the one before', async () => {
  await start()
  await server.until('one', (now) => now.progress.current_step >= 30)
  const asked = performance.now()
  expect(await server.stop()).toBe(0)
  expect(performance.now() - asked).toBeLessThan(25_000)
  expect(await engines()).toEqual([])

  server = await Server.start(folder.path)
  const events = await server.events('one', 0, ({ type, data }) => type === 'prepared' && data.resumed_from_step !== 0)
  const steps = events.flatMap(({ type, data }) => (type === 'step' ? [Number(data.step)] : []))
  expect(events.at(-1)?.data.resumed_from_step).toBeGreaterThanOrEqual(Math.max(...steps) - 1)
}, 120_000)

test('a second signal ends it at once, and the engine with it', async () => {
  await start()
  await server.until('one', (now) => now.status === 'running')
  const pids = (await engines()).filter(({ commandLine }) => commandLine.includes('mlx_engine.train'))
  expect(pids).toHaveLength(1)
  // A stopped engine makes no checkpoint, so that the first signal alone would take the 25 s.
  process.kill(pids[0]?.pid ?? 0, 'SIGSTOP')
  server.process.kill('SIGTERM')
  while (!server.output.some((line) => line.includes('"closing"'))) await sleep(20)
  expect(await server.kill('SIGTERM')).toBe(1)

  // On systems without PR_SET_PDEATHSIG the next server ends the engine.
  server = await Server.start(folder.path)
  expect((await engines()).map(({ pid }) => pid)).not.toContain(pids[0]?.pid)
  expect((await server.status('one')).attempt).toBeGreaterThanOrEqual(1)
}, 120_000)

/** The built server as another process, which is expected to end by itself. */
function second(environment: Record<string, string>): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, 'packages', 'server', 'dist', 'main.js')],
    {
      cwd: folder.path,
      env: { ...process.env, HF_HUB_OFFLINE: '1', ...environment },
      encoding: 'utf8',
      timeout: 60_000,
    },
  )
  return { status, said: `${stdout}${stderr}` }
}

test('a second server on the home folder refuses, and leaves the job of the first alone', async () => {
  await start()
  await server.until('one', (now) => now.progress.current_step >= 3)
  const { status, said } = second({ PORT: '0', MLX_TRAINING_HOME: join(folder.path, 'home') })
  expect(status).toBe(1)
  expect(said).toMatch(/can't start: Another server is using .*home: stop it, or set MLX_TRAINING_HOME/)
  const { current_step: before } = (await server.status('one')).progress
  const after = await server.until('one', (now) => now.progress.current_step > before)
  expect(after.attempt).toBe(1)
}, 120_000)

test('a port that is taken: by whom', () => {
  const { status, said } = second({ PORT: new URL(server.url).port, MLX_TRAINING_HOME: join(folder.path, 'other') })
  expect(status).toBe(1)
  expect(said).toMatch(/can't start: port \d+ is in use.*Stop that, or set PORT to another one/)
  if (process.platform === 'linux') expect(said).toContain(String(server.process.pid))
}, 60_000)

test('without a reader of its log it goes on working, and ends when it is asked to', async () => {
  server.process.stderr?.destroy()
  server.process.stdout?.destroy()
  const asked = Array.from({ length: 50 }, () => server.request('GET', '/train/nobody/status'))
  expect((await Promise.all(asked)).map(({ status }) => status)).toEqual(asked.map(() => 404))
  expect(await server.stop()).toBe(0)
}, 60_000)

// npm run bench:events: a job trains while many clients follow it, some without ever reading, and others ask for its status.
//   npm run bench:events -- [--clients N] [--silent N] [--rate N] [--seconds N] [--history N] [--json PATH]
// bench/README.md says what is measured and how.
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import autocannon from 'autocannon'
import { BUNDLED_MODEL, fail, ROOT, Stop } from '../scripts/lib.mjs'
import { requireProject, WORK } from './lib/environment.mjs'
import { commit, loadAverage, machine, round, versions } from './lib/machine.mjs'
import { childrenWith, residentMb, watch } from './lib/processes.mjs'

const DIST = join(ROOT, 'packages', 'server', 'dist')
const KEY = 'bench'
const NAME = 'followed'
const SETTLE = 5000

const { values: options } = parseArgs({
  options: {
    clients: { type: 'string', default: '1000' },
    silent: { type: 'string', default: '200' },
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '45' },
    history: { type: 'string', default: '3000' },
    json: { type: 'string', default: join(ROOT, 'bench', 'results', 'events.json') },
  },
})
const [clients, silent, rate, seconds, history] = ['clients', 'silent', 'rate', 'seconds', 'history'].map((name) => {
  const value = Number(options[name])
  if (!Number.isInteger(value) || value < 1) throw new Stop(`--${name} must be a whole number from 1`)
  return value
})
const children = new Set()
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))
await main().catch(fail)

async function main() {
  requireProject()
  const home = mkdtempSync(join(tmpdir(), 'bench-events-'))
  const load = loadAverage()
  try {
    let server = await startServer(home)
    await post(server, '/train/start', request())
    await until(server, ({ progress }) => progress.current_step >= 1)
    await server.stop()
    await addHistory(home)
    server = await startServer(home)
    await until(server, ({ status, progress }) => status === 'running' && progress.current_step >= 3)
    const found = await measure(server)
    await server.stop()
    report({ load, found })
  } finally {
    rmSync(home, { recursive: true, force: true, maxRetries: 5 })
  }
}

function request() {
  return {
    experiment_name: NAME,
    model_name: BUNDLED_MODEL,
    epochs: 1000,
    lora: { use_lora: true, lora_r: 8, lora_alpha: 16, lora_dropout: 0 },
    dataset: { dataset_path: join(ROOT, 'examples', 'service_alpaca.json'), batch_size: 4, max_seq_length: 512 },
    save_steps: 100_000,
  }
}

/** A job that has run for hours, without waiting for them: its own steps, written again as the runner writes them. */
async function addHistory(home) {
  const { openSqliteStore } = await import(pathToFileURL(join(DIST, 'store', 'sqlite.js')).href)
  const store = await openSqliteStore(join(home, 'home', 'training.db'))
  const job = await store.job(NAME)
  const step = (await store.eventsAfter(job.id, 0, 10_000)).find(({ type }) => type === 'step')
  const events = Array.from({ length: history }, () => ({ type: 'step', data: step.data }))
  await store.update(job.id, null, () => ({ change: {}, events }))
  await store.close()
}

async function measure(server) {
  const observer = await observe(server)
  const [engine] = childrenWith(server.pid, 'mlx_engine.train')
  const crowd = fork(join(ROOT, 'bench', 'lib', 'event-clients.mjs'))
  children.add(crowd)
  const watched = watch({ server: server.pid, engine, clients: crowd.pid, status: process.pid })
  const window = async (work = () => pause(1000 * seconds)) => {
    const from = performance.now()
    const result = await work()
    return { ...figures(observer.steps, watched, from, performance.now()), result }
  }
  const quiet = [await window()]
  const before = residentMb(server.pid)
  let peak = before
  const memory = setInterval(() => {
    peak = Math.max(peak, residentMb(server.pid))
  }, 500)

  const beforeOpening = performance.now()
  crowd.send({
    open: {
      url: server.url,
      key: KEY,
      path: `/train/${NAME}/events`,
      readers: clients - silent,
      silent,
      last: observer.last(),
    },
  })
  const [{ open }] = await once(crowd, 'message')
  const opened = performance.now()
  const openingCpu = watched.cpuBetween('server', beforeOpening, opened)
  const cut = untilCut(server, opened)
  const loaded = await window(() => askStatus(server))
  clearInterval(memory)
  const streams = await metric(server, 'mlx_training_event_streams')
  const { result: asked } = loaded
  crowd.send({ close: true })
  const [{ closed }] = await once(crowd, 'message')
  children.delete(crowd)
  await pause(SETTLE)
  quiet.push(await window())
  watched.stop()
  observer.stop()
  for (const one of [...quiet, loaded]) delete one.result
  return {
    quiet,
    loaded,
    opening: { seconds: round(open, 2), server_cpu_seconds: round(openingCpu, 2) },
    memory: {
      before_mb: round(before, 1),
      peak_mb: round(peak, 1),
      mb_per_client: round((peak - before) / clients, 3),
    },
    silent_cut_seconds: await cut,
    streams_open_at_the_end: streams,
    seen: closed,
    status: {
      requests: asked.requests.total,
      errors: asked.errors + asked.non2xx + asked.timeouts,
      p50_ms: asked.latency.p50,
      p99_ms: asked.latency.p99,
      max_ms: asked.latency.max,
    },
    slowdown: slowdown(quiet, loaded),
  }
}

/** Between the first step's end and the last one's in the window, so that none counts in part. */
function figures(steps, watched, from, to) {
  const inside = steps.filter(({ at }) => at >= from && at <= to)
  if (inside.length < 3) throw new Stop('Too few steps in the time: give more --seconds')
  const [begin, end] = [inside[0].at, inside.at(-1).at]
  const tokens = inside.slice(1).reduce((sum, step) => sum + step.tokens, 0)
  const per1000 = (name) => round((1000 * watched.cpuBetween(name, begin, end)) / tokens, 4)
  return {
    steps: inside.length - 1,
    tokens,
    tokens_per_second: round((1000 * tokens) / (end - begin), 1),
    cpu_seconds_per_1000_tokens: {
      engine: per1000('engine'),
      server: per1000('server'),
      clients: per1000('clients'),
      status: per1000('status'),
    },
  }
}

/**
 * Of training: what its own CPU time grew by for the same tokens, and what the server took in addition, as a share of it,
 * where all cores are busy. What the clients took is theirs: they would run elsewhere.
 */
function slowdown(quiet, { cpu_seconds_per_1000_tokens: loaded, tokens_per_second: speed }) {
  const mean = (pick) => quiet.reduce((sum, one) => sum + pick(one), 0) / quiet.length
  const engine = mean((one) => one.cpu_seconds_per_1000_tokens.engine)
  const server = mean((one) => one.cpu_seconds_per_1000_tokens.server)
  return {
    engine_cpu: round(loaded.engine / engine - 1, 4),
    server_cpu: round((loaded.server - server) / engine, 4),
    wall_with_clients_here: round(mean((one) => one.tokens_per_second) / speed - 1, 4),
  }
}

function askStatus(server) {
  return autocannon({
    url: `${server.url}/train/${NAME}/status`,
    connections: 10,
    overallRate: rate,
    duration: seconds,
    headers: { 'x-api-key': KEY },
  })
}

/** Seconds from when all were connected until as many have been cut as never read; null: not within the time. */
async function untilCut(server, opened) {
  for (let waited = 0; waited < 40; waited++) {
    if ((await metric(server, 'mlx_training_event_streams_cut_total')) >= silent)
      return round((performance.now() - opened) / 1000, 1)
    await pause(1000)
  }
  return null
}

async function metric(server, name) {
  const text = await (await fetch(`${server.url}/metrics`)).text()
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1])
}

/** One more client, which notes when steps end. */
async function observe(server) {
  const stop = new AbortController()
  const { job_id } = await status(server)
  const steps = []
  let last = 0
  const response = await fetch(`${server.url}/train/${NAME}/events`, {
    headers: { 'x-api-key': KEY },
    signal: stop.signal,
  })
  if (!response.ok) throw new Stop(`The events of ${job_id} can't be read`)
  const reading = (async () => {
    const text = response.body.pipeThrough(new TextDecoderStream())
    let buffered = ''
    for await (const chunk of text) {
      const messages = (buffered + chunk).split('\n\n')
      buffered = messages.pop()
      for (const message of messages) {
        const data = /^data: (.*)$/m.exec(message)?.[1]
        if (!data) continue
        const event = JSON.parse(data)
        last = event.id
        if (event.type === 'step') steps.push({ at: performance.now(), tokens: event.data.tokens })
      }
    }
  })()
  reading.catch(() => {})
  while (last < history) await pause(50)
  return { steps, last: () => last, stop: () => stop.abort() }
}

async function startServer(home) {
  const log = createWriteStream(join(WORK, 'events-server.log'))
  const child = spawn(process.execPath, [join(DIST, 'main.js')], {
    cwd: home,
    env: {
      ...process.env,
      PORT: '0',
      MLX_TRAINING_HOME: join(home, 'home'),
      MLX_TRAINING_API_KEY: KEY,
      MLX_TRAINING_DATASET_ROOTS: ROOT,
      MLX_TRAINING_OUTPUT_ROOTS: home,
      LOG_LEVEL: 'info',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  child.stderr.pipe(log)
  const url = await new Promise((listening, failed) => {
    child.once('exit', () => failed(new Stop('The server did not start; see .bench/events-server.log')))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const match = /listening on (\S+)/.exec(line)
      if (match) listening(match[1])
    })
  })
  const stop = async () => {
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    await gone
    children.delete(child)
  }
  return { url, pid: child.pid, stop }
}

async function post(server, path, body) {
  const headers = { 'x-api-key': KEY, 'content-type': 'application/json' }
  const answer = await fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) })
  if (!answer.ok) throw new Stop(`${path}: ${await answer.text()}`)
}

async function status(server) {
  return await (await fetch(`${server.url}/train/${NAME}/status`, { headers: { 'x-api-key': KEY } })).json()
}

async function until(server, holds) {
  for (;;) {
    const now = await status(server)
    if (holds(now)) return
    if (now.status === 'failed') throw new Stop(`The job failed: ${now.reason}`)
    await pause(200)
  }
}

function pause(milliseconds) {
  return new Promise((resume) => setTimeout(resume, milliseconds))
}

function report({ load, found }) {
  const file = resolve(options.json)
  mkdirSync(dirname(file), { recursive: true })
  const whole = {
    benchmark: 'events',
    date: new Date().toISOString(),
    ...commit(),
    machine: machine(),
    versions: versions(null),
    load_average: load,
    settings: { model: BUNDLED_MODEL, clients, silent, requests_per_second: rate, seconds, history },
    ...found,
  }
  writeFileSync(file, `${JSON.stringify(whole, null, 1)}\n`)
  console.log(`${JSON.stringify(found, null, 1)}\nWritten to ${relative(process.cwd(), file)}`)
}

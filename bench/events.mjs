// npm run bench:events: a job trains while many clients follow it, some without ever reading, and others ask for its status.
//   npm run bench:events -- [--clients N] [--silent N] [--rate N] [--seconds N] [--history N] [--json PATH]
// bench/README.md says what is measured and how. Ends with 1 when a target is missed.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import autocannon from 'autocannon'
import { BUNDLED_MODEL, fail, ROOT, Stop } from '../scripts/lib.mjs'
import { requireProject } from './lib/environment.mjs'
import { KEY, observe, PATH, startFollowed } from './lib/followed-server.mjs'
import { commit, loadAverage, machine, round, versions } from './lib/machine.mjs'
import { childrenWith, residentMb, tcpBuffersMb, watch } from './lib/processes.mjs'

const SETTLE = 5000
/** Milliseconds that a reader stays connected at least. */
const STAY = 40_000
/** Of the clients, which would run on machines of their own. */
const NICE = 19

const { values: options } = parseArgs({
  options: {
    clients: { type: 'string', default: '1000' },
    silent: { type: 'string', default: '200' },
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '40' },
    history: { type: 'string', default: '15000' },
    json: { type: 'string', default: join(ROOT, 'bench', 'results', 'events.json') },
  },
})
const [clients, silent, rate, seconds, history] = ['clients', 'silent', 'rate', 'seconds', 'history'].map((name) => {
  const value = Number(options[name])
  if (!Number.isInteger(value) || value < 1) throw new Stop(`--${name} must be a whole number from 1`)
  return value
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130)) // which ends what is running
await main().catch(fail)

async function main() {
  requireProject()
  const folder = mkdtempSync(join(tmpdir(), 'bench-events-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  const load = loadAverage()
  say(`a job with ${history} events of history`)
  const server = await startFollowed(folder, history)
  const found = await measure(server)
  await server.stop()
  report(load, found)
}

async function measure(server) {
  const observer = await observe(server, history)
  const [engine] = childrenWith(server.pid, 'mlx_engine.train')
  const crowd = fork(join(ROOT, 'bench', 'lib', 'event-clients.mjs'))
  process.once('exit', () => crowd.kill('SIGKILL'))
  const watched = watch({ server: server.pid, engine, clients: crowd.pid, status: process.pid })
  const span = async (what, work = () => pause(1000 * seconds)) => {
    say(`${seconds} s ${what}`)
    const from = performance.now()
    const result = await work()
    return { result, ...figures(observer.steps, watched, from, performance.now()) }
  }
  const { result: _, ...before } = await span('of training alone')

  const memory = watchMemory(server.pid)
  say(`${clients} clients, ${silent} of which never read`)
  const opening = performance.now()
  const last = observer.last()
  const url = server.url
  const readers = clients - silent
  crowd.send({ open: { url, key: KEY, path: `${PATH}/events`, readers, silent, last, stay: STAY, nice: NICE } })
  await once(crowd, 'message')
  const opened = performance.now()
  const { result: answered, ...loaded } = await span(`of training with them and ${rate} status requests/s`, () =>
    askStatus(server),
  )
  const counted = await server.metric('mlx_training_event_streams_cut_total')
  const used = memory.stop()
  crowd.send({ close: true })
  const [{ closed }] = await once(crowd, 'message')
  await pause(SETTLE)
  const { result: __, ...after } = await span('of training alone')
  watched.stop()
  observer.stop()
  return {
    status: {
      requests: answered.requests.total,
      errors: answered.errors + answered.non2xx + answered.timeouts,
      p50_ms: answered.latency.p50,
      p99_ms: answered.latency.p99,
      max_ms: answered.latency.max,
    },
    memory: used,
    opening: {
      seconds: round((opened - opening) / 1000, 2),
      server_cpu_seconds: round(watched.cpuBetween('server', opening, opened), 2),
    },
    silent_cut: { counted, ...spread(closed.cut) },
    seen: { ...closed, cut: closed.cut.length },
    training: { before, loaded, after, slowdown: slowdown([before, after], loaded) },
  }
}

/** Between the first step's end and the last one's in the span, so that none counts in part. */
function figures(steps, watched, from, to) {
  const inside = steps.filter(({ at }) => at >= from && at <= to)
  if (inside.length < 3) throw new Stop('Too few steps in the time: give more --seconds')
  const [begin, end] = [inside[0].at, inside.at(-1).at]
  const tokens = inside.slice(1).reduce((sum, step) => sum + step.tokens, 0)
  const cpu = Object.fromEntries(
    ['engine', 'server', 'clients', 'status', 'machine'].map((name) => [name, watched.cpuBetween(name, begin, end)]),
  )
  const others = cpu.machine - cpu.engine - cpu.server - cpu.clients - cpu.status
  const per1000 = (name) => round((1000 * cpu[name]) / tokens, 4)
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
    others_cores: round(Math.max(0, (1000 * others) / (end - begin)), 2),
  }
}

/**
 * Of training, which keeps all cores busy: by how much more CPU time it needs itself for the same tokens, and what the
 * server takes from it, as a share of what it needs. What the clients take is theirs: they would run elsewhere, and stand
 * in `wall_with_clients_here`.
 */
function slowdown(alone, { cpu_seconds_per_1000_tokens: loaded, tokens_per_second: speed }) {
  const mean = (pick) => alone.reduce((sum, one) => sum + pick(one), 0) / alone.length
  const engine = mean((one) => one.cpu_seconds_per_1000_tokens.engine)
  const server = mean((one) => one.cpu_seconds_per_1000_tokens.server)
  const [own, taken] = [loaded.engine / engine - 1, (loaded.server - server) / engine]
  return {
    engine_cpu: round(own, 4),
    server_cpu: round(taken, 4),
    together: round(own + taken, 4),
    wall_with_clients_here: round(mean((one) => one.tokens_per_second) / speed - 1, 4),
  }
}

/** What the server's memory and the kernel's buffers of TCP grow by at most, before the first client and with all. */
function watchMemory(pid) {
  const look = () => ({ server_mb: residentMb(pid), tcp_mb: tcpBuffersMb() })
  const before = look()
  const peak = { ...before }
  const timer = setInterval(() => {
    const now = look()
    for (const name of Object.keys(now)) peak[name] = Math.max(peak[name], now[name])
  }, 250)
  const rounded = (sizes) => Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, round(size, 1)]))
  const perClient = (name) => round((peak[name] - before[name]) / clients, 3)
  return {
    stop() {
      clearInterval(timer)
      return {
        before: rounded(before),
        peak: rounded(peak),
        server_mb_per_client: perClient('server_mb'),
        tcp_mb_per_client: perClient('tcp_mb'),
      }
    },
  }
}

function askStatus(server) {
  return autocannon({
    url: `${server.url}${PATH}/status`,
    connections: 10,
    overallRate: rate,
    duration: seconds,
    headers: { 'x-api-key': KEY },
  })
}

function spread(all) {
  const [shortest, longest] = all.length > 0 ? [Math.min(...all), Math.max(...all)] : [null, null]
  return { shortest_seconds: round(shortest, 1), longest_seconds: round(longest, 1) }
}

/** [what, found, must be, whether it is] */
function targets({ status, memory, silent_cut: cut, seen, training }) {
  const below = (what, found, most) => [what, String(found), `≤ ${most}`, found !== null && found <= most]
  return [
    ['status p99, ms', String(status.p99_ms), '< 250', status.p99_ms < 250],
    below('status errors', status.errors, 0),
    below('memory a client, MiB', memory.server_mb_per_client, 1),
    ['silent clients cut', `${seen.cut}/${cut.counted}`, `= ${silent}`, seen.cut === silent && cut.counted >= silent],
    below('the last of them after, s', cut.longest_seconds, 30),
    below('events missing', seen.gaps, 0),
    below('events repeated', seen.repeats, 0),
    below('streams refused', seen.refused, 0),
    below('training slowed by, %', round(100 * training.slowdown.together, 2), 3),
  ]
}

function report(load, found) {
  const judged = targets(found)
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
    targets: judged.map(([what, value, target, met]) => ({ what, found: value, target, met })),
    ...found,
  }
  writeFileSync(file, `${JSON.stringify(whole, null, 1)}\n`)
  for (const [what, value, target, met] of judged)
    console.log(`${met ? 'met   ' : 'MISSED'}  ${what.padEnd(30)} ${value.padStart(9)}  ${target}`)
  const { before, loaded, after } = found.training
  const others = Math.max(before.others_cores, loaded.others_cores, after.others_cores)
  if (others > 0.1)
    console.log(`! Something else kept up to ${others} cores busy meanwhile: run this on an idle machine.`)
  console.log(`Written to ${relative(process.cwd(), file)}`)
  if (judged.some(([, , , met]) => !met)) process.exitCode = 1
}

function say(what) {
  console.log(`• ${what} …`)
}

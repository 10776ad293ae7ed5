// npm run bench:dashboard: how long the dashboard takes to paint, and whether it keeps its frames with long runs.
//   npm run bench:dashboard -- [--runs N] [--steps N] [--rounds N] [--long N] [--json PATH]
// bench/README.md says what is measured and how. Ends with 1 when a target is missed.
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'
import { chromium } from 'playwright-core'
import { fail, ROOT } from '../scripts/lib.mjs'
import { commit, loadAverage, machine, round } from './lib/machine.mjs'

const KEY = 'bench'
/** Events that one statement can write: SQLite takes 32,766 values. */
const AT_A_TIME = 5000
const TARGETS = { script_kb: 150, first_paint_ms: 1000, longest_task_ms: 50 }

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '10' },
    steps: { type: 'string', default: '10000' },
    /** Steps of one more run, which is looked at alone. */
    long: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'string', default: join(ROOT, 'bench', 'results', 'dashboard.json') },
  },
})
async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'bench-dashboard-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  const load = loadAverage()
  const names = Array.from({ length: Number(options.runs) }, (_, i) => `run-${i + 1}`)
  await fill(folder, names)
  const server = await start(folder)
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu'],
  })
  const rounds = []
  for (let i = 0; i < Number(options.rounds); i++) rounds.push(await measure(browser, server.url, names))
  await browser.close()
  server.process.kill()
  report(load, rounds)
}

/** Ended runs with the steps that their events would have told, without training them. */
async function fill(folder, names) {
  const { openSqliteStore } = await import(
    pathToFileURL(join(ROOT, 'packages', 'server', 'dist', 'store', 'sqlite.js')).href
  )
  const store = await openSqliteStore(join(folder, 'home', 'training.db'))
  for (const [i, name] of [...names, 'long'].entries()) {
    const steps = Number(name === 'long' ? options.long : options.steps)
    const job = await store.insertJob(jobOf(folder, name, i, steps), [{ type: 'state', data: { state: 'queued' } }])
    for (let from = 1; from <= steps; from += AT_A_TIME) {
      const events = Array.from({ length: Math.min(AT_A_TIME, steps + 1 - from) }, (_, j) => stepOf(from + j, steps, i))
      await store.update(job.id, null, () => ({ change: {}, events }))
    }
    await store.update(job.id, null, () => ({
      change: { state: 'completed', startedAt: '2026-01-01T00:00:00Z', completedAt: '2026-01-01T01:00:00Z' },
      events: [{ type: 'end', data: { state: 'completed', reason: null } }],
    }))
  }
  await store.close()
}

const jobOf = (folder, name, i, steps) => ({
  name,
  request: {
    experiment_name: name,
    model_name: 'SmolLM2-135M-Instruct',
    epochs: 3,
    max_steps: steps,
    learning_rate: 1e-4 * (i + 1),
    priority: 0,
    lora: { use_lora: true, lora_r: 8, lora_alpha: 16, lora_target_modules: ['q_proj', 'v_proj'] },
    dataset: { dataset_path: 'data.json', batch_size: 4, max_seq_length: 512 },
  },
  plan: {
    method: 'lora',
    model: { kind: 'folder', name: 'SmolLM2-135M-Instruct', path: folder },
    dataset: {
      path: join(folder, 'rows.jsonl'),
      sha256: '0'.repeat(64),
      format: 'alpaca',
      samples: 1000,
      warnings: [],
    },
    validation: null,
    outputDir: join(folder, name),
  },
})

/** Reproducible noise: no two runs alike. */
function stepOf(step, steps, seed) {
  const noise = Math.sin(step * 12.9898 + seed * 78.233) * 0.5
  const loss = 0.5 + 3 * Math.exp((-5 * step) / steps) + 0.15 * (noise + 0.1 * seed)
  return {
    type: 'step',
    data: {
      step,
      epoch: 1,
      loss,
      smoothed_loss: loss,
      learning_rate: 1e-4 * (1 - step / steps),
      grad_norm: 1 + noise,
      tokens: 512,
      trained_tokens: 256,
      tokens_per_second: 1200 + 100 * noise,
      trained_tokens_per_second: 600,
      padding_share: 0.02,
      processed_samples: 4 * step,
      memory_mb: 4500 + seed,
      seconds_remaining: 10,
    },
  }
}

async function start(cwd) {
  const child = spawn(process.execPath, [join(ROOT, 'packages', 'server', 'dist', 'main.js')], {
    cwd,
    env: {
      ...process.env,
      PORT: '0',
      LOG_LEVEL: 'warn',
      MLX_TRAINING_HOME: join(cwd, 'home'),
      MLX_TRAINING_API_KEY: KEY,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  process.once('exit', () => child.kill('SIGKILL'))
  const url = await new Promise((listening) =>
    createInterface({ input: child.stdout }).on('line', (line) => {
      const found = /listening on (http:\S+)/.exec(line)?.[1]
      if (found) listening(found)
    }),
  )
  return { process: child, url }
}

/** The longest task of the page's main thread during `work`: a frame can't be drawn before it ends. Milliseconds of its own
 *  CPU time, and by the clock, which others' work on the machine lengthens. */
async function longest(browser, page, work) {
  await browser.startTracing(page, { categories: ['toplevel', 'disabled-by-default-devtools.timeline'] })
  await work()
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString())
  const main = traceEvents.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain')
  const threads = new Set(main.map(({ pid, tid }) => `${pid}/${tid}`))
  let [cpu, clock] = [0, 0]
  for (const { name, pid, tid, dur = 0, tdur = 0 } of traceEvents) {
    if (!/RunTask$/.test(name) || !threads.has(`${pid}/${tid}`)) continue
    cpu = Math.max(cpu, tdur)
    clock = Math.max(clock, dur)
  }
  return { cpu_ms: round(cpu / 1000, 1), clock_ms: round(clock / 1000, 1) }
}

async function measure(browser, url, names) {
  const context = await browser.newContext({ viewport: { width: 1920, height: 1080 } })
  await context.addInitScript(`sessionStorage.setItem('mlx-training.key', '${KEY}')`)
  const page = await context.newPage()
  const tasks = {}
  tasks.list = await longest(browser, page, async () => {
    await page.goto(url)
    await page.getByRole('link', { name: 'run-1', exact: true }).waitFor()
  })
  const paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
  for (const [name, path, last, steps] of [
    ['compare', `/comparison?runs=${names.join(',')}`, names.at(-1), options.steps],
    ['long', '/experiments/long', 'Training', options.long],
  ]) {
    const drawn = new RegExp(`^Loss\\. .*${last}: ${Number(steps).toLocaleString('en')} values`)
    tasks[`${name}_load`] = await longest(browser, page, async () => {
      await page.goto(url + path)
      await page.getByRole('img', { name: drawn }).waitFor()
      await page.waitForTimeout(500)
    })
    await interact(browser, page, name, tasks)
  }
  await context.close()
  return { first_paint_ms: round(paint, 0), tasks }
}

/** The pointer over the curves, a zoom and back, smoothing. */
async function interact(browser, page, name, tasks) {
  const box = await page.getByRole('img', { name: /^Loss\. / }).boundingBox()
  const at = (share) => [box.x + 60 + share * (box.width - 80), box.y + box.height / 2]
  tasks[`${name}_hover`] = await longest(browser, page, async () => {
    for (let i = 0; i <= 100; i++) await page.mouse.move(...at(i / 100))
  })
  tasks[`${name}_zoom`] = await longest(browser, page, async () => {
    await page.mouse.move(...at(0.3))
    await page.mouse.down()
    for (let i = 0; i <= 20; i++) await page.mouse.move(...at(0.3 + 0.02 * i))
    await page.mouse.up()
    await page.getByRole('button', { name: 'Show all' }).click()
    await page.waitForTimeout(300)
  })
  tasks[`${name}_smoothing`] = await longest(browser, page, async () => {
    await page.getByLabel('Smoothing').focus()
    for (let i = 0; i < 10; i++) await page.keyboard.press('ArrowRight')
    await page.waitForTimeout(300)
  })
}

function report(load, rounds) {
  const assets = join(ROOT, 'packages', 'web', 'dist', 'assets')
  const script = readdirSync(assets)
    .filter((file) => file.endsWith('.js'))
    .reduce((sum, file) => sum + gzipSync(readFileSync(join(assets, file))).length, 0)
  const least = (value) => Math.min(...rounds.map(value))
  const tasks = Object.fromEntries(
    Object.keys(rounds[0].tasks).map((name) => [
      name,
      { cpu_ms: least((found) => found.tasks[name].cpu_ms), clock_ms: least((found) => found.tasks[name].clock_ms) },
    ]),
  )
  const result = { script_kb: round(script / 1000, 1), first_paint_ms: least((found) => found.first_paint_ms), tasks }
  let missed = 0
  const tell = (name, value, limit, note = '') => {
    if (value > limit) missed++
    console.log(`${value > limit ? 'missed' : 'met   '}  ${name.padEnd(24)} ${value} (at most ${limit})${note}`)
  }
  tell('script, KB', result.script_kb, TARGETS.script_kb)
  tell('first paint, ms', result.first_paint_ms, TARGETS.first_paint_ms)
  for (const [name, { cpu_ms, clock_ms }] of Object.entries(tasks))
    tell(`${name}, ms`, cpu_ms, TARGETS.longest_task_ms, `, by the clock ${clock_ms}`)
  const { json, ...asked } = options
  const about = {
    at: new Date().toISOString(),
    machine: machine(),
    commit: commit(),
    load_before: load,
    options: asked,
  }
  writeFileSync(json, `${JSON.stringify({ ...about, targets: TARGETS, result, rounds }, null, 2)}\n`)
  process.exitCode = missed ? 1 : 0
}

await main().catch(fail)

// The server that trains the job which bench/events.mjs follows.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { BUNDLED_MODEL, ROOT, Stop } from '../../scripts/lib.mjs'
import { WORK } from './environment.mjs'

const DIST = join(ROOT, 'packages', 'server', 'dist')
const LOG = join(WORK, 'events-server.log')
export const KEY = 'bench'
export const NAME = 'followed'
export const PATH = `/train/${NAME}`

const ROWS = 512
const SEQUENCE = 128
/** Events that one statement can write: SQLite takes 32,766 values. */
const AT_A_TIME = 5000

/** Rows of one length: every step computes the same, so that what two spans of time took can be compared. */
function writeRows(folder) {
  const path = join(folder, 'rows.json')
  const rows = Array.from({ length: ROWS }, (_, i) => ({
    instruction: `Repeat the number of this row, which is ${String(i).padStart(4, '0')}, and say who counted it.`,
    input: '',
    output: `This is the row ${String(i).padStart(4, '0')}, and the harbour master counted it in the evening.`,
  }))
  writeFileSync(path, JSON.stringify(rows))
  return path
}

/** Starts a training that would go on for hours, with a history of so many events more than it has made. */
export async function startFollowed(folder, history) {
  const rows = writeRows(folder)
  const first = await start(folder)
  await first.post('/train/start', {
    experiment_name: NAME,
    model_name: BUNDLED_MODEL,
    epochs: 10_000,
    lora: { use_lora: true, lora_r: 8, lora_alpha: 16, lora_dropout: 0 },
    dataset: { dataset_path: rows, batch_size: 4, max_seq_length: SEQUENCE },
    save_steps: 1_000_000,
  })
  await first.until(({ progress }) => progress.current_step >= 1)
  await first.stop()
  await addHistory(folder, history)
  const server = await start(folder)
  await server.until(({ status, progress }) => status === 'running' && progress.current_step >= 5)
  return server
}

/** Its own steps, written again as the runner writes them. */
async function addHistory(folder, count) {
  const { openSqliteStore } = await import(pathToFileURL(join(DIST, 'store', 'sqlite.js')).href)
  const store = await openSqliteStore(join(folder, 'home', 'training.db'))
  const job = await store.job(NAME)
  const step = (await store.eventsAfter(job.id, 0, 10_000)).find(({ type }) => type === 'step')
  for (let left = count; left > 0; left -= AT_A_TIME) {
    const events = Array.from({ length: Math.min(left, AT_A_TIME) }, () => ({ type: 'step', data: step.data }))
    await store.update(job.id, null, () => ({ change: {}, events }))
  }
  await store.close()
}

async function start(folder) {
  mkdirSync(WORK, { recursive: true })
  const child = spawn(process.execPath, [join(DIST, 'main.js')], {
    cwd: folder,
    env: {
      ...process.env,
      PORT: '0',
      MLX_TRAINING_HOME: join(folder, 'home'),
      MLX_TRAINING_API_KEY: KEY,
      MLX_TRAINING_DATASET_ROOTS: folder,
      MLX_TRAINING_OUTPUT_ROOTS: folder,
      LOG_LEVEL: 'info',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  child.stderr.pipe(createWriteStream(LOG))
  const url = await new Promise((listening, failed) => {
    child.once('exit', () => failed(new Stop(`The server did not start; see ${LOG}`)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const match = /listening on (\S+)/.exec(line)
      if (match) listening(match[1])
    })
  })
  const headers = { 'x-api-key': KEY }
  const status = async () => await (await fetch(`${url}${PATH}/status`, { headers })).json()
  return {
    url,
    pid: child.pid,
    async stop() {
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
      process.off('exit', kill)
    },
    async post(path, body) {
      const json = { ...headers, 'content-type': 'application/json' }
      const answer = await fetch(url + path, { method: 'POST', headers: json, body: JSON.stringify(body) })
      if (!answer.ok) throw new Stop(`${path}: ${await answer.text()}`)
    },
    async metric(name) {
      const text = await (await fetch(`${url}/metrics`)).text()
      return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1])
    },
    async until(holds) {
      for (;;) {
        const now = await status()
        if (holds(now)) return
        if (now.status === 'failed') throw new Stop(`The job failed: ${now.reason}`)
        await new Promise((resume) => setTimeout(resume, 200))
      }
    },
  }
}

/** One more client, which notes when steps end: {steps: [{at, tokens}], last(), stop()}. Has replayed all when it is here. */
export async function observe({ url }, history) {
  const stop = new AbortController()
  const steps = []
  let last = 0
  const response = await fetch(`${url}${PATH}/events`, { headers: { 'x-api-key': KEY }, signal: stop.signal })
  if (!response.ok) throw new Stop(`The events can't be read: ${await response.text()}`)
  const reading = (async () => {
    let buffered = ''
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
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
  while (last < history) await new Promise((resume) => setTimeout(resume, 50))
  return { steps, last: () => last, stop: () => stop.abort() }
}

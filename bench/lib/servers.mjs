// The servers that generate: how each is started, and how it is asked.
import { spawn } from 'node:child_process'
import { createWriteStream, existsSync, mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { BUNDLED_MODEL, PYTHON, ROOT, Stop, VENV } from '../../scripts/lib.mjs'
import { BASE, exportBase, requireLlama, WORK } from './environment.mjs'

const HOME = join(WORK, 'generate') // stays: its jobs made the adapters
const SERVER = join(ROOT, 'packages', 'server', 'dist', 'main.js')
export const KEY = 'bench'
const PATIENCE = 120_000

export const adapterName = (index) => `bench-${index}`

/** {title, adapters, start() → {ask, stop}}; ask(request) resolves to {firstSeconds, seconds, tokens, promptTokens}. A request has
 *  messages, maxTokens and `adapter`: a number, or null for the base. */
export const SERVERS = {
  ours: {
    title: 'mlx-distributed-training',
    adapters: true,
    async start() {
      const server = await startOurs()
      return { ask: askOurs(server.url), stop: server.stop }
    },
  },
  'mlx-lm': {
    title: 'mlx_lm.server, MKL, float32 base',
    adapters: true,
    async start() {
      if (!existsSync(join(BASE, 'config.json'))) await exportBase()
      const port = await freePort()
      const url = `http://127.0.0.1:${port}`
      const env = {
        ...process.env,
        LD_PRELOAD: 'libmkl_rt.so.3',
        LD_LIBRARY_PATH: join(VENV, 'lib'),
        HF_HUB_OFFLINE: '1',
      }
      const args = ['-m', 'mlx_lm', 'server', '--model', BASE, '--port', String(port)]
      const stop = await started(
        PYTHON,
        args,
        { env, name: 'mlx-lm' },
        async () => (await fetch(`${url}/v1/models`)).ok,
      )
      const ask = ({ messages, adapter, maxTokens }) =>
        stream(`${url}/v1/chat/completions`, {
          model: BASE,
          ...(adapter !== null && { adapters: join(HOME, 'outputs', adapterName(adapter)) }),
          messages,
          max_tokens: maxTokens,
          temperature: 0,
          stream: true,
          stream_options: { include_usage: true },
        })
      return { ask, stop }
    },
  },
  'llama-cpp': {
    // One request after the other: its server has one context, which it locks.
    title: "llama.cpp's server (llama-cpp-python), Q4_1",
    async start() {
      const { python, gguf } = await requireLlama()
      const port = await freePort()
      const url = `http://127.0.0.1:${port}`
      const args = ['-m', 'llama_cpp.server', '--model', gguf, '--port', String(port), '--n_ctx', '2048']
      args.push('--n_threads', String(availableParallelism()), '--interrupt_requests', 'false')
      const ready = async () => (await fetch(`${url}/v1/models`)).ok
      const stop = await started(python, args, { env: process.env, name: 'llama-cpp' }, ready)
      const ask = ({ messages, maxTokens }) =>
        stream(`${url}/v1/chat/completions`, {
          messages,
          max_tokens: maxTokens,
          temperature: 0,
          stream: true,
          stream_options: { include_usage: true },
        })
      return { ask, stop }
    },
  },
}

export const askOurs =
  (url) =>
  ({ messages, adapter, maxTokens }) =>
    stream(`${url}/generate`, {
      model: adapter === null ? BUNDLED_MODEL : `fine-tuned/${adapterName(adapter)}`,
      messages,
      max_tokens: maxTokens,
      temperature: 0,
      top_p: 1,
      stream: true,
    })

/** `environment`: variables beside the usual ones. */
export async function startOurs(environment = {}) {
  if (!existsSync(SERVER)) throw new Stop('The server is not built: run "npm run build" first.')
  mkdirSync(HOME, { recursive: true })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const env = {
    ...process.env,
    PORT: String(port),
    MLX_TRAINING_HOME: join(HOME, 'home'),
    MLX_TRAINING_API_KEY: KEY,
    ...environment,
  }
  const options = { env: { ...env, MLX_TRAINING_DATASET_ROOTS: ROOT }, cwd: HOME, name: 'ours' }
  const stop = await started(process.execPath, [SERVER], options, async () => {
    const health = await (await fetch(`${url}/health`)).json()
    return health.engine.state === 'ready'
  })
  return { url, stop }
}

/** Adapters that differ, r 8 on all linear layers, each from a job of one step with a seed of its own. */
export async function makeAdapters(count) {
  const { url, stop } = await startOurs()
  const headers = { 'x-api-key': KEY, 'content-type': 'application/json' }
  try {
    for (let i = 0; i < count; i++) {
      const status = async () => await fetch(`${url}/train/${adapterName(i)}/status`, { headers })
      if ((await status()).status !== 200) {
        const body = {
          experiment_name: adapterName(i),
          model_name: BUNDLED_MODEL,
          dataset: {
            dataset_path: join(ROOT, 'examples', 'service_alpaca.json'),
            batch_size: 1,
            max_seq_length: 128,
          },
          lora: {
            use_lora: true,
            lora_r: 8,
            lora_alpha: 16,
            lora_target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
          },
          max_steps: 1,
          learning_rate: 1e-3,
          seed: i,
        }
        const answer = await fetch(`${url}/train/start`, { method: 'POST', headers, body: JSON.stringify(body) })
        if (!answer.ok) throw new Stop(`The adapter could not be made: ${await answer.text()}`)
      }
      for (;;) {
        const { status: state, reason } = await (await status()).json()
        if (state === 'completed') break
        if (['failed', 'stopped'].includes(state)) throw new Stop(`${adapterName(i)} ${state}: ${reason}`)
        await new Promise((resolve) => setTimeout(resolve, 300))
      }
    }
  } finally {
    await stop()
  }
}

/** Runs it until `ready` says so; resolves to what ends it. */
async function started(command, args, { env, cwd = ROOT, name }, ready) {
  mkdirSync(WORK, { recursive: true })
  const log = createWriteStream(join(WORK, `generate-${name}.log`))
  const child = spawn(command, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const output of [child.stdout, child.stderr]) output.pipe(log, { end: false })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const stop = async () => {
    child.kill('SIGTERM')
    const late = setTimeout(kill, 10_000)
    await gone
    clearTimeout(late)
    process.off('exit', kill)
    log.end()
  }
  for (const deadline = Date.now() + PATIENCE; ; await new Promise((resolve) => setTimeout(resolve, 200))) {
    if (await ready().catch(() => false)) return stop
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop()
      throw new Stop(`${name} did not start; see .bench/generate-${name}.log`)
    }
  }
}

/** Both APIs answer with server-sent events of JSON, whose last one has the usage. */
async function stream(url, body) {
  const start = performance.now()
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Stop(`${url} answered ${response.status}: ${await response.text()}`)
  let first = null
  let usage = null
  let pieces = 0
  let buffered = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (buffered + chunk).split('\n')
    buffered = lines.pop()
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue
      const event = JSON.parse(line.slice(6))
      if (event.status_code) throw new Stop(`${url}: ${event.detail}`)
      if (event.text || event.choices?.[0]?.delta?.content) {
        first ??= performance.now()
        pieces++
      }
      usage = event.usage ?? usage
    }
  }
  const end = performance.now()
  return {
    firstSeconds: ((first ?? end) - start) / 1000,
    seconds: (end - start) / 1000,
    tokens: usage?.completion_tokens ?? pieces,
    promptTokens: usage?.prompt_tokens ?? null,
  }
}

function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}

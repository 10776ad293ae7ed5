import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { JobEvent, StatusResponse } from '@mlx-training/contract'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const PYTHON = join(ROOT, '.venv', 'bin', 'python')
export const KEY = 'your-key'
export const ALPACA = join(ROOT, 'examples', 'service_alpaca.json')
export const SHAREGPT = join(ROOT, 'examples', 'service_sharegpt.json')
export const MODEL = 'SmolLM2-135M-Instruct'

/** A temp folder that the server and the test may write to; removed at the end. */
export function workFolder(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'mlx-training-e2e-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

/** Makes a tiny random model of an architecture in a folder, as the engine's own tests do. */
export function makeTinyModel(folder: string, options: Record<string, unknown> = {}): void {
  mkdirSync(folder, { recursive: true })
  const script =
    'import json, sys; from tiny import make_tiny_model; make_tiny_model(sys.argv[1], **json.loads(sys.argv[2]))'
  execFileSync(PYTHON, ['-c', script, folder, JSON.stringify(options)], {
    env: {
      ...process.env,
      PYTHONPATH: [join(ROOT, 'engine', 'src'), join(ROOT, 'engine', 'tests')].join(':'),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
}

export interface Answer<T = Record<string, unknown>> {
  status: number
  body: T
}

export class Server {
  readonly url: string
  readonly process: ChildProcess
  readonly output: string[]

  private constructor(url: string, child: ChildProcess, output: string[]) {
    this.url = url
    this.process = child
    this.output = output
  }

  /** Starts the built server as its own process on a free port and waits until it listens. */
  static async start(cwd: string, env: Record<string, string> = {}): Promise<Server> {
    const child = spawn(process.execPath, [join(ROOT, 'packages', 'server', 'dist', 'main.js')], {
      cwd,
      env: {
        ...process.env,
        PORT: '0',
        MLX_TRAINING_HOME: join(cwd, 'home'),
        MLX_TRAINING_API_KEY: KEY,
        MLX_TRAINING_DATASET_ROOTS: [cwd, join(ROOT, 'examples')].join(':'),
        MLX_TRAINING_OUTPUT_ROOTS: cwd,
        MLX_TRAINING_MODEL_ROOTS: cwd,
        HF_HUB_CACHE: join(cwd, 'hub'),
        HF_HUB_OFFLINE: '1',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const output: string[] = []
    const url = await new Promise<string>((listening, failed) => {
      for (const stream of [child.stdout, child.stderr])
        createInterface({ input: stream }).on('line', (line) => {
          output.push(line)
          const match = /listening on (http:\/\/[^\s"\\]+)/.exec(line)
          if (match?.[1]) listening(match[1])
        })
      child.once('exit', (code) => failed(new Error(`the server ended with ${code}:\n${output.join('\n')}`)))
    })
    return new Server(url, child, output)
  }

  async request<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = { 'X-API-Key': KEY },
  ): Promise<Answer<T>> {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        ...headers,
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as T }
  }

  async status(name: string): Promise<StatusResponse> {
    return (await this.request<StatusResponse>('GET', `/train/${name}/status`)).body
  }

  /** Polls the status until `done` says so; fails with what it saw when the job ended in another way or time is up. */
  async until(name: string, done: (status: StatusResponse) => boolean, seconds = 120): Promise<StatusResponse> {
    const deadline = Date.now() + seconds * 1000
    for (;;) {
      const status = await this.status(name)
      if (done(status)) return status
      if (Date.now() > deadline || status.status === 'failed')
        throw new Error(`${name}: ${JSON.stringify(status)}\n${this.output.slice(-20).join('\n')}`)
      await new Promise((resume) => setTimeout(resume, 100))
    }
  }

  /** Events up to the one that `last` accepts (or the stream's end). */
  async events(name: string, after = 0, last: (event: JobEvent) => boolean = () => false): Promise<JobEvent[]> {
    const abort = new AbortController()
    const response = await fetch(`${this.url}/train/${name}/events`, {
      headers: {
        'X-API-Key': KEY,
        ...(after > 0 && { 'Last-Event-ID': String(after) }),
      },
      signal: abort.signal,
    })
    if (!response.ok || !response.body) throw new Error(`events: ${response.status} ${await response.text()}`)
    const events: JobEvent[] = []
    let buffered = ''
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      buffered += chunk
      const messages = buffered.split('\n\n')
      buffered = messages.pop() ?? ''
      for (const message of messages) {
        const data = message.split('\n').find((line) => line.startsWith('data:'))
        if (!data) continue
        const event = JSON.parse(data.slice(5)) as JobEvent
        events.push(event)
        if (last(event)) {
          abort.abort()
          return events
        }
      }
    }
    return events
  }

  async kill(signal: NodeJS.Signals): Promise<number | null> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return this.process.exitCode
    const exited = once(this.process, 'exit')
    this.process.kill(signal)
    return ((await exited) as [number | null])[0]
  }

  stop(): Promise<number | null> {
    return this.kill('SIGTERM')
  }
}

/** Processes on this machine whose command line holds `text`. */
export function processesWith(text: string): string[] {
  const list = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' })
  return list.split('\n').filter((line) => line.includes(text) && !line.includes('ps -eo'))
}

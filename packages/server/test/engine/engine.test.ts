import { existsSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type FrameOf, type GenerateCommand, ServiceError } from '@mlx-training/contract'
import { afterEach, describe, expect, it } from 'vitest'
import { createEngine, type EngineOptions } from '../../src/engine/index.ts'
import type { Engine } from '../../src/engine/port.ts'
import { anyTrainCommand, type FakeEngine, fakeEngine, isAlive, until } from './fake.ts'

let fake: FakeEngine
let engine: Engine
const lines: string[] = []
const log = {
  debug: () => {},
  info: (_: unknown, text?: string) => void lines.push(text ?? ''),
  warn: (_: unknown, text?: string) => void lines.push(text ?? ''),
}
afterEach(async () => {
  await engine.close()
  fake.remove()
})

function start(modules: Parameters<typeof fakeEngine>[0], options?: EngineOptions, python?: string): void {
  lines.length = 0
  fake = fakeEngine(modules)
  engine = createEngine({ ...fake.config, ...(python && { python: join(fake.folder, python) }) }, log, options)
}

const refused = async (work: Promise<unknown>): Promise<ServiceError> => {
  const error: unknown = await work.then(
    () => expect.fail('it worked'),
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(ServiceError)
  return error as ServiceError
}

describe('the probe', () => {
  it('finds a working engine', async () => {
    start({})
    expect(engine.health().state).toBe('starting')
    expect(await engine.ready()).toEqual({
      state: 'ready',
      reason: null,
      device: 'cpu',
      backend: 'fake',
      dtype: 'float32',
      gflops: 12.5,
      kernels: null,
      mlx_version: '0',
      mlx_lm_version: '0',
    })
    expect(engine.health().state).toBe('ready')
    expect(lines).toEqual(['engine ready: cpu, fake'])
  })

  it.each([
    [
      'no Python',
      {},
      'missing/python',
      /^The engine is not set up: there is no Python at .*missing\/python\. Run "npm run setup"/,
    ],
    [
      'a missing package',
      { probe: 'import no_such_package' },
      undefined,
      /No module named 'no_such_package'\. Run "npm run setup"/,
    ],
    [
      'an error of the engine',
      { probe: 'hello(); error("internal", "no device"); sys.exit(1)' },
      undefined,
      /^no device\. Run/,
    ],
    ['a crash', { probe: 'os.kill(os.getpid(), signal.SIGILL)' }, undefined, /native code \(SIGILL\)/],
  ])('says why there is none: %s', async (_, modules, python, reason) => {
    start(modules, undefined, python)
    const health = await engine.ready()
    expect(health).toMatchObject({ state: 'unavailable', device: null })
    expect(health.reason).toMatch(reason)
    expect(health.reason).not.toContain('\n')
    expect(lines[0]).toContain('engine unavailable: ')
    expect((await refused(engine.generate(request('hi'), {}))).code).toBe('unavailable')
    expect((await refused(engine.importGguf('/a', '/b'))).code).toBe('unavailable')
    expect(() => engine.train(anyTrainCommand, () => {})).toThrow(ServiceError)
  })
})

it('looks again while there is none, and tells the same reason once', async () => {
  const flag = join(tmpdir(), `mlx-training-probe-${process.pid}-${Date.now()}`)
  const probe = `
import pathlib
flag = pathlib.Path("${flag}")
tries = int(flag.read_text()) if flag.exists() else 0
flag.write_text(str(tries + 1))
if tries < 2: error("internal", "no device"); sys.exit(1)
hello()`
  try {
    start({ probe }, { reprobe: 10 })
    expect((await engine.ready()).state).toBe('unavailable')
    await until(() => engine.health().state === 'ready')
    expect((await engine.ready()).device).toBe('cpu')
    expect(lines.filter((line) => line.includes('unavailable'))).toHaveLength(1)
  } finally {
    rmSync(flag, { force: true })
  }
})

const SERVE = `
hello()
def beat():
    while True: send("alive", memory_mb=1.0); time.sleep(0.1)
threading.Thread(target=beat, daemon=True).start()
waiting = {}
def done(id, text, reason="stop"):
    choice = {"text": text, "finish_reason": reason, "completion_tokens": len(text.split())}
    timing = {"queue_seconds": 0.0, "prefill_seconds": 0.1, "decode_seconds": 0.1}
    send("done", id=id, prompt_tokens=3, cached_tokens=0, choices=[choice], timing=timing, **choice)
def token(id, text): send("token", id=id, text=text, index=0, logprobs=None)
while True:
    given = command()
    if given["type"] == "cancel":
        with open(os.path.join(os.environ["PYTHONPATH"], "cancelled"), "a") as file: file.write(given["id"] + "\\n")
        if waiting.pop(given["id"], None): done(given["id"], "", "cancelled")
        continue
    id, prompt = given["id"], given["prompt"]
    if prompt == "crash": os.kill(os.getpid(), signal.SIGKILL)
    elif prompt == "fatal": error("internal", "cannot go on"); sys.exit(1)
    elif prompt == "wait": waiting[id] = True; token(id, "so far")
    elif prompt.startswith("error "): error(prompt.split()[1], "as asked", id)
    else:
        send("loaded", model_path=given["model_path"], seconds=0.1)
        for word in prompt.split(): token(id, word)
        done(id, f"{os.getpid()} {prompt}")
`

function request(prompt: string): Omit<GenerateCommand, 'type' | 'id'> {
  return {
    model_path: '/m',
    adapter_path: null,
    messages: null,
    prompt,
    max_tokens: 8,
    temperature: 0,
    top_p: 1,
    stop: [],
    seed: null,
  }
}
const pidOf = ({ text }: FrameOf<'done'>) => Number(text.split(' ')[0])

describe('generation', () => {
  it('starts one process at first use, streams, and serves several at once', async () => {
    start({ serve: SERVE })
    await engine.ready()
    expect(existsSync(join(fake.folder, 'runs', 'generation'))).toBe(false)
    const tokens: string[] = []
    const first = await engine.generate(request('a b c'), { onToken: (text) => tokens.push(text) })
    expect(first).toMatchObject({ finish_reason: 'stop', prompt_tokens: 3 })
    expect(tokens).toEqual(['a', 'b', 'c'])
    const more = await Promise.all(['x', 'y', 'z'].map((prompt) => engine.generate(request(prompt), {})))
    expect(more.map(pidOf)).toEqual([1, 2, 3].map(() => pidOf(first)))
    expect(more.map(({ text }) => text.split(' ')[1])).toEqual(['x', 'y', 'z'])
    await engine.close()
    expect(isAlive(pidOf(first))).toBe(false)
    expect((await refused(engine.generate(request('late'), {}))).message).toBe('The server is shutting down')
  })

  it('fails the requests of a crashed process, and starts another for the next', async () => {
    start({ serve: SERVE })
    const first = await engine.generate(request('a'), {})
    const both = await Promise.all([
      refused(engine.generate(request('wait'), {})),
      refused(engine.generate(request('crash'), {})),
    ])
    for (const error of both) {
      expect(error).toMatchObject({ code: 'unavailable', retryAfter: 1 })
      expect(error.message).toContain('SIGKILL')
    }
    const next = await engine.generate(request('b'), {})
    expect(pidOf(next)).not.toBe(pidOf(first))
    expect((await refused(engine.generate(request('fatal'), {}))).message).toContain('cannot go on')
    await engine.generate(request('c'), {})
  })

  it('tells training when answers are generated, and when no more are', async () => {
    const TRAIN = `
hello()
given = command()
warning("started")
while True:
    given = command()
    if given["type"] == "stop": finished("stopped", 1)
    warning(given["type"] + " " + str(given["active"]))`
    start({ serve: SERVE, train: TRAIN })
    await engine.ready()
    const told: string[] = []
    const train = () =>
      engine.train(anyTrainCommand, (frame) => void (frame.type === 'warning' && told.push(frame.message)))
    const first = train()
    await until(() => told.length === 1)
    const abort = new AbortController()
    const asked = [request('wait'), request('wait')].map((command) =>
      engine.generate(command, { signal: abort.signal }),
    )
    await until(() => told.includes('answering True'))
    const second = train() // told at once of what is going on already
    await until(() => told.length === 4)
    abort.abort(new Error('gone'))
    await Promise.allSettled(asked)
    await until(() => told.length === 6)
    for (const training of [first, second]) training.stop()
    await Promise.all([first.exited, second.exited])
    const twice = ['answering False', 'answering True', 'started'].flatMap((text) => [text, text])
    expect(told.toSorted()).toEqual(twice)
  })

  it('cancels what nobody waits for any more', async () => {
    start({ serve: SERVE })
    const abort = new AbortController()
    const waiting = engine.generate(request('wait'), {
      signal: abort.signal,
      onToken: () => abort.abort(new Error('gone')),
    })
    await expect(waiting).rejects.toThrow('gone')
    await engine.generate(request('next'), {})
    expect(readFileSync(join(fake.config.engineSource, 'cancelled'), 'utf8')).toBe('g1\n')
    await expect(engine.generate(request('a'), { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow(
      'before',
    )
  })

  it('ends only the request of a reader that throws', async () => {
    start({ serve: SERVE })
    const other = engine.generate(request('a b'), {})
    const failing = engine.generate(request('wait'), {
      onToken: () => {
        throw new Error('reader')
      },
    })
    await expect(failing).rejects.toThrow('reader')
    expect(pidOf(await other)).toBe(pidOf(await engine.generate(request('c'), {})))
  })

  it.each([
    ['invalid_model', 400],
    ['invalid_parameters', 400],
    ['out_of_memory', 503],
    ['internal', 500],
  ])('an engine error %s is a %i', async (kind, status) => {
    start({ serve: SERVE })
    const error = await refused(engine.generate(request(`error ${kind}`), {}))
    expect(error).toMatchObject({ status, message: 'as asked' })
  })

  it('lets the process go when idle, and starts again', async () => {
    start({ serve: SERVE }, { idle: 100 })
    const first = await engine.generate(request('a'), {})
    await until(() => !isAlive(pidOf(first)))
    expect(pidOf(await engine.generate(request('b'), {}))).not.toBe(pidOf(first))
    expect(lines.filter((line) => line.includes('generation process ended'))).toEqual([])
  })
})

describe('the import of a GGUF file', () => {
  const GGUF = `
hello()
given = command()
if "bad" in given["gguf_path"]: error("invalid_model", "not a GGUF file"); sys.exit(1)
if "die" in given["gguf_path"]: os.kill(os.getpid(), signal.SIGKILL)
if "slow" in given["gguf_path"]: time.sleep(60)
send("stage", stage="importing", done=1, total=2)
send("imported", path=given["output_path"], total_params=10)
`
  it('tells its progress and the folder', async () => {
    start({ gguf: GGUF })
    const stages: unknown[] = []
    expect(await engine.importGguf('/a.gguf', '/models/a', (stage) => stages.push(stage))).toBe('/models/a')
    expect(stages).toEqual([{ type: 'stage', stage: 'importing', done: 1, total: 2 }])
  })

  it('says what went wrong', async () => {
    start({ gguf: GGUF })
    expect(await refused(engine.importGguf('/bad', '/o'))).toMatchObject({ status: 400, message: 'not a GGUF file' })
    expect((await refused(engine.importGguf('/die', '/o'))).message).toMatch(/^\/die was not imported: .*SIGKILL/)
  })

  it('ends with the engine', async () => {
    start({ gguf: GGUF })
    await engine.ready()
    const slow = refused(engine.importGguf('/slow', '/o'))
    await engine.close()
    expect((await slow).code).toBe('unavailable')
  })
})

describe('an estimate', () => {
  const ESTIMATE = `
hello()
given = command()
what = given["experiment_name"]
def estimated(measured, fits):
    send("estimated", total_steps=4, steps_per_epoch=2, samples=8, samples_dropped=0, samples_truncated=0, tokens=80,
         trained_tokens=40, longest_sample=20, padding_share=0.1, measured_steps=measured, seconds=30.0,
         seconds_per_step=None, tokens_per_second=None, peak_memory_mb=None, available_memory_mb=100.0, fits=fits,
         advice=["rest"], trainable_params=16, total_params=256, target_modules=["q_proj"])
if what == "nothing": sys.exit(0)
if what == "dead": os.kill(os.getpid(), signal.SIGKILL)
if what == "wrong": error("invalid_dataset", "no rows"); sys.exit(1)
warning("careful")
estimated(0, False)
if what == "crashed": os.kill(os.getpid(), signal.SIGSEGV)
if what == "full": error("out_of_memory", "Not enough memory: 12 GB"); sys.exit(1)
if what == "bug": error("internal", "KeyError: x"); sys.exit(1)
if what == "slow":
    open(os.path.join(os.environ["PYTHONPATH"], "pid"), "w").write(str(os.getpid())); time.sleep(60)
estimated(3, True)
`
  const of = (name: string, signal?: AbortSignal) =>
    engine.estimate({ ...anyTrainCommand, experiment_name: name }, { signal })

  it('is the last word of the process, with its warnings', async () => {
    start({ estimate: ESTIMATE })
    const { estimated, warnings, ranOut } = await of('fine')
    expect(estimated).toMatchObject({ measured_steps: 3, fits: true })
    expect([warnings, ranOut]).toEqual([['careful'], null])
  })

  it.each([
    ['crashed', /SIGSEGV.*, as MLX on a CPU does when memory runs out/],
    ['full', /^Not enough memory: 12 GB$/],
  ])('is what was known before, when memory runs out: %s', async (name, reason) => {
    start({ estimate: ESTIMATE })
    const { estimated, ranOut } = await of(name)
    expect(estimated).toMatchObject({ measured_steps: 0, fits: false })
    expect(ranOut).toMatch(reason)
  })

  it.each([
    ['nothing', 503, /^Nothing was estimated: The engine ended without finishing/],
    ['dead', 503, /^Nothing was estimated: .*SIGKILL/],
    ['wrong', 400, /^no rows$/],
    ['bug', 500, /KeyError/],
  ])('or an error: %s', async (name, status, message) => {
    start({ estimate: ESTIMATE })
    const error = await refused(of(name))
    expect(error.status).toBe(status)
    expect(error.message).toMatch(message)
  })

  it('ends when nobody waits for it any more, and with the engine', async () => {
    start({ estimate: ESTIMATE })
    const abort = new AbortController()
    const pidFile = join(fake.config.engineSource, 'pid')
    const slow = of('slow', abort.signal)
    slow.catch(() => {})
    await until(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8') !== '')
    abort.abort(new Error('gone'))
    await expect(slow).rejects.toThrow('gone')
    expect(isAlive(Number(readFileSync(pidFile, 'utf8')))).toBe(false)
    await expect(of('fine', AbortSignal.abort(new Error('before')))).rejects.toThrow('before')
    const other = refused(of('slow'))
    await engine.close()
    expect((await other).code).toBe('unavailable')
  })
})

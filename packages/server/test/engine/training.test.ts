import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Frame, ServiceError } from '@mlx-training/contract'
import pino from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { LOG_BYTES } from '../../src/engine/output.ts'
import type { Deadlines } from '../../src/engine/process.ts'
import { startTraining } from '../../src/engine/training.ts'
import { anyTrainCommand, type FakeEngine, fakeEngine, isAlive, until } from './fake.ts'

let fake: FakeEngine
let logged: string[] = []
const log = pino({ level: 'debug' }, { write: (line: string) => logged.push(line) })
afterEach(() => {
  fake.remove()
  logged = []
})

function start(
  train: string,
  onFrame: (frame: Frame) => Promise<void> | void = () => {},
  deadlines: Partial<Deadlines> = {},
) {
  fake = fakeEngine({ train })
  return startTraining(fake.config, anyTrainCommand, onFrame, log, deadlines)
}

/** The pid of a grandchild that the fake tells in a warning. */
const told = (frames: Frame[]) => frames.flatMap((frame) => (frame.type === 'warning' ? [frame.message] : []))

describe('a training process', () => {
  it('gets its command and hands over every frame in order, one at a time', async () => {
    const frames: Frame[] = []
    let busy = 0
    const { exited } = start(
      `
hello()
given = command()
warning(given["type"] + " " + given["job_id"])
for number in range(1, 301):
    step(number)
    if number % 10 == 0: print("noise that is no frame")
finished(step=300)`,
      async (frame) => {
        expect(++busy).toBe(1)
        await sleep(1)
        frames.push(frame)
        busy--
      },
    )
    const exit = await exited
    expect(exit).toMatchObject({ kind: 'finished', finished: { outcome: 'completed', step: 300 }, error: null })
    expect(told(frames)).toEqual(['train job_1'])
    expect(frames.flatMap((frame) => (frame.type === 'step' ? [frame.step] : []))).toEqual(
      Array.from({ length: 300 }, (_, index) => index + 1),
    )
    expect(frames.at(-1)?.type).toBe('finished')
    const lines = logged.map((line) => JSON.parse(line))
    expect(lines.filter((line) => line.engine === 'noise that is no frame')).toHaveLength(30)
    for (const line of lines) expect(line).toMatchObject({ job_id: 'job_1', attempt: 1, level: 20 })
  })

  it('is not read on while a frame is being handled: the engine waits', async () => {
    let release = () => {}
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    const progress = () => Number(readFileSync(join(fake.folder, 'written'), 'utf8') || 0)
    const { exited } = start(
      `
hello()
for number in range(1, 20001):
    step(number)
    if number % 100 == 0:
        with open(os.path.join(os.environ["PYTHONPATH"], "..", "written.new"), "w") as file: file.write(str(number))
        os.replace(file.name, file.name[:-4])
finished()`,
      async (frame) => {
        if (frame.type === 'step') await gate
      },
    )
    await until(() => existsSync(join(fake.folder, 'written')))
    let last = 0
    await until(async () => {
      const before = progress()
      await sleep(300)
      last = progress()
      return last === before
    })
    // Both ends of a pipe hold some 64 KiB each, of frames of 250 bytes.
    expect(last).toBeLessThan(5000)
    release()
    expect((await exited).kind).toBe('finished')
  })

  it('stops when asked', async () => {
    const run = start(`
hello()
command()
assert command() == {"type": "stop"}
finished("stopped", 2)`)
    run.stop()
    run.stop()
    expect(await run.exited).toMatchObject({ kind: 'finished', finished: { outcome: 'stopped' } })
    run.stop()
    run.kill()
  })

  it('keeps what it prints in a file and the last lines of stderr, whatever the amount', async () => {
    const { exited } = start(`
hello()
print("to stdout")
for number in range(200_000):
    print(f"line {number} " + "x" * 80, file=sys.stderr)
sys.stderr.write("half a line")
sys.exit(7)`)
    const { kind, log, reason } = await exited
    expect(kind).toBe('crashed')
    expect(log).toHaveLength(50)
    expect(log.at(-2)).toBe(`line 199999 ${'x'.repeat(80)}`)
    expect(reason).toBe('The engine ended with exit status 7: half a line')
    const file = join(fake.folder, 'runs', 'job_1', 'engine.log')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const sizes = [file, `${file}.1`].map((name) => statSync(name).size)
    for (const size of sizes) expect(size).toBeLessThan(LOG_BYTES + (1 << 20))
    expect(readFileSync(file, 'utf8')).toContain('half a line')
  })

  it('sees no secrets of the server', async () => {
    const secrets = {
      OPENAI_API_KEY: 'sk-secret',
      HF_TOKEN: 'hf-secret',
      MLX_TRAINING_API_KEY: 'mt-secret',
      MLX_TRAINING_DATABASE_URL: 'postgres://secret',
      MLX_METAL_DEBUG: 'kept',
      OMP_NUM_THREADS: '2',
    }
    Object.assign(process.env, secrets)
    try {
      const frames: Frame[] = []
      await start('warning(json.dumps(dict(os.environ)))', (frame) => void frames.push(frame)).exited
      const environment = JSON.parse(told(frames)[0] ?? '') as Record<string, string>
      expect(JSON.stringify(environment)).not.toContain('secret')
      expect(environment).toMatchObject({
        MLX_METAL_DEBUG: 'kept',
        OMP_NUM_THREADS: '2',
        HF_HUB_OFFLINE: '1',
        PATH: process.env.PATH,
      })
      expect(environment.NODE_OPTIONS).toBeUndefined()
    } finally {
      for (const name of Object.keys(secrets)) delete process.env[name]
    }
  })
})

describe('what ends a training process', () => {
  it.each([
    ['garbage', 'hello(); os.write(3, b"Loading weights...\\n"); time.sleep(60)', 'not a frame: "Loading weights..."'],
    ['an unknown frame', 'hello(); send("surprise"); time.sleep(60)', 'not a frame'],
    ['a bad field', 'hello(); send("alive", memory_mb="much"); time.sleep(60)', 'a bad alive frame: memory_mb must be'],
    [
      'bytes without an end',
      'hello(); os.write(3, b"x" * (3 << 20)); time.sleep(60)',
      'a frame is longer than 1048576 bytes',
    ],
    [
      'another protocol',
      'hello(protocol=2); time.sleep(60)',
      'it speaks protocol 2 and this server 1. Run "npm run setup"',
    ],
  ])('%s', async (_, train, words) => {
    const run = start(train)
    const exit = await run.exited
    expect(exit.kind).toBe('crashed')
    expect(exit.reason).toContain('The engine broke the protocol and was ended: ')
    expect(exit.reason).toContain(words)
    expect(isAlive(run.pid)).toBe(false)
  })

  it('an error frame, whose message is the reason', async () => {
    const { exited } = start('hello(); error("invalid_model", "no config.json in /m"); sys.exit(1)')
    expect(await exited).toMatchObject({
      kind: 'error',
      reason: 'no config.json in /m',
      error: { kind: 'invalid_model' },
    })
  })

  it('an exception, whose last line is in the reason', async () => {
    const { exited } = start('hello(); raise ValueError("bad luck")')
    expect(await exited).toMatchObject({
      kind: 'crashed',
      reason: 'The engine ended with exit status 1: ValueError: bad luck',
    })
  })

  it('the end without a finished frame', async () => {
    expect(await start('hello()').exited).toMatchObject({
      kind: 'crashed',
      reason: 'The engine ended without finishing its work',
    })
  })

  it.each([
    ['SIGKILL', 'SIGKILL'],
    ['SIGSEGV', 'crashed in native code (SIGSEGV)'],
    ['SIGTERM', 'was ended from outside by SIGTERM'],
  ] as const)('%s, in the middle of a frame', async (signal, words) => {
    let greeted = () => {}
    const hello = new Promise<void>((resolve) => {
      greeted = resolve
    })
    const run = start('hello(); os.write(3, b\'{"type": "ali\'); time.sleep(60)', () => greeted())
    await hello
    await sleep(50)
    process.kill(run.pid, signal)
    const exit = await run.exited
    expect(exit.kind).toBe('crashed')
    expect(exit.reason).toContain(words)
  })

  it('a crash after the finished frame does not matter', async () => {
    const { exited } = start(`
hello()
send("finished", outcome="completed", step=4, loss=0.5, best_step=None, reason=None)
os.kill(os.getpid(), signal.SIGABRT)`)
    expect(await exited).toMatchObject({ kind: 'finished', finished: { step: 4 } })
  })

  it('silence', async () => {
    const run = start('hello(); time.sleep(60)', undefined, { silence: 400 })
    expect(await run.exited).toMatchObject({
      kind: 'hung',
      reason: 'The engine gave no sign of life for 0.4 s and was ended',
    })
  })

  it('a hang that the engine has seen itself, within the limit that it was given', async () => {
    const body = 'hello(); error("internal", "no progress for " + os.environ["MLX_TRAINING_HANG_SECONDS"]); sys.exit(1)'
    expect(await start(body, undefined, { hang: 90_000 }).exited).toMatchObject({
      kind: 'error',
      reason: 'no progress for 90',
    })
    const without = start('hello(); finished("MLX_TRAINING_HANG_SECONDS" in os.environ or "completed")', undefined, {
      hang: 0,
    })
    expect(await without.exited).toMatchObject({ kind: 'finished', finished: { outcome: 'completed' } })
  })

  it('no first frame', async () => {
    const run = start('time.sleep(60)', undefined, { hello: 400 })
    expect(await run.exited).toMatchObject({
      kind: 'hung',
      reason: 'The engine did not start within 0.4 s and was ended',
    })
  })

  it('not the time that this side takes for a frame', async () => {
    const frames: Frame[] = []
    const run = start(
      'hello(); step(1); finished()',
      async (frame) => {
        await sleep(600)
        frames.push(frame)
      },
      { silence: 200, pipes: 200 },
    )
    expect((await run.exited).kind).toBe('finished')
    expect(frames.map((frame) => frame.type)).toEqual(['hello', 'step', 'finished'])
  })

  it('a failure to handle a frame, even of one that has ended already', async () => {
    const run = start('hello(); step(1); finished()', async (frame) => {
      await sleep(100)
      if (frame.type === 'finished') throw new Error('the store is gone')
    })
    expect(await run.exited).toMatchObject({
      kind: 'crashed',
      reason: "The server could not go on with the engine's messages: the store is gone",
    })
  })

  it('the deadline after stop, with all that it started', async () => {
    const frames: Frame[] = []
    const run = start(
      `
signal.signal(signal.SIGTERM, signal.SIG_IGN)
hello()
warning(str(subprocess.Popen(["sleep", "60"]).pid))
while True: send("alive", memory_mb=1.0); time.sleep(0.05)`,
      (frame) => void frames.push(frame),
      { end: 300 },
    )
    await until(() => told(frames).length === 1)
    run.suspend()
    expect(await run.exited).toMatchObject({
      kind: 'killed',
      reason: 'The engine did not end within 0.3 s of being asked to and was killed',
    })
    const grandchild = Number(told(frames)[0])
    await until(() => !isAlive(grandchild))
  })

  it('its own end, though a grandchild holds its pipes', async () => {
    const frames: Frame[] = []
    const run = start(
      'hello(); warning(str(subprocess.Popen(["sleep", "60"], close_fds=False, pass_fds=[3]).pid)); finished()',
      (frame) => void frames.push(frame),
      { pipes: 200 },
    )
    expect((await run.exited).kind).toBe('finished')
    process.kill(Number(told(frames)[0]), 'SIGKILL')
  })

  it('nothing to start', () => {
    fake = fakeEngine({})
    const config = { ...fake.config, python: join(fake.folder, 'none', 'python') }
    expect(() => startTraining(config, anyTrainCommand, () => {}, log)).toThrow(ServiceError)
    expect(() => startTraining(config, anyTrainCommand, () => {}, log)).toThrow(
      `The engine is not set up: there is no Python at ${config.python}. Run "npm run setup"`,
    )
  })
})

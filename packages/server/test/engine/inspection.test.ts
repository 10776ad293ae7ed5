/** The inspect process from the server's side: its turns, cancels, crashes and end. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type InspectCommand, ServiceError } from '@mlx-training/contract'
import { afterEach, describe, expect, it } from 'vitest'
import { createEngine } from '../../src/engine/index.ts'
import { INSPECTION_QUEUE } from '../../src/engine/inspection.ts'
import type { Engine } from '../../src/engine/port.ts'
import { anyTrainCommand, type FakeEngine, fakeEngine, isAlive, until } from './fake.ts'

/** Answers by the model's path: `ok`, `wait` until cancelled, `deaf` for ever, `error`, `die`, `junk`. */
const INSPECT = `
hello()
with open(os.path.join(os.environ["PYTHONPATH"], "pids"), "a") as file: file.write(f"{os.getpid()}\\n")
def tokens(n): return dict(total=n, trained=n, masked=0, cut=0, unused=0)
def report(rows): return dict(rows=rows, used_rows=rows, cut_rows=0, rows_without_supervision=0, rows_missing_end=0,
    rows_doubled_bos=0, examples=rows, tokens=tokens(9), lengths=None, longest=[], limit=8, suggested_max_seq_length=None,
    suggestion=None, batch_size=1, steps_per_epoch=1, padding_share=0.0, padding_share_unpacked=0.0, packing=True,
    chat_template=False, opening=None, findings=[], refusal=None, cached=False)
for line in sys.stdin:
    asked = json.loads(line)
    id, how = asked["id"], asked.get("model_path")
    if asked["type"] == "cancel":
        if waiting == "wait": send("inspected", id=id, report=None)
        continue
    waiting = how
    print("got", how, file=sys.stderr, flush=True)
    send("stage", stage="tokenizing", done=1, total=2)
    if how == "die": os._exit(3)
    if how == "junk": send("previewed", id=id, json='[{"sample": 1}]', more=False)
    if how == "error": error("invalid_model", "no tokenizer", id)
    if how != "ok": continue
    if asked["type"] == "inspect": send("inspected", id=id, report=report(asked["dataset"]["batch_size"]))
    else:
        text = json.dumps([dict(sample=n, problem="gone", notes=[], texts=[]) for n in asked["samples"]])
        for at in range(0, len(text), 7): send("previewed", id=id, json=text[at:at + 7], more=at + 7 < len(text))
`

let fake: FakeEngine
let engine: Engine
const crashes: string[] = []
const log = {
  debug: () => {},
  info: () => {},
  warn: (_: unknown, text?: string) => void crashes.push(text ?? ''),
}
afterEach(async () => {
  await engine.close()
  fake.remove()
})

function start(inspect = INSPECT, idle?: number): void {
  crashes.length = 0
  fake = fakeEngine({ inspect })
  engine = createEngine(fake.config, log, { idle, deadlines: { end: 1000 } })
}

const command = (model_path: string, batch_size = 1): Omit<InspectCommand, 'type' | 'id'> => ({
  model_path,
  dataset: { ...anyTrainCommand.dataset, batch_size },
  seed: 1,
})
const inspect = (how: string, signal?: AbortSignal, rows?: number) => engine.inspect(command(how, rows), { signal })
const pids = () => {
  const file = join(fake.config.engineSource, 'pids')
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').map(Number) : []
}
const got = (how: string) => {
  const file = join(fake.folder, 'runs', 'inspection', 'engine.log')
  return existsSync(file) ? readFileSync(file, 'utf8').split(`got ${how}`).length - 1 : 0
}
const refused = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => expect.fail('it worked'),
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(ServiceError)
  return error as ServiceError
}

describe('the inspect process', () => {
  it('answers one after the other, the same process for all', async () => {
    start()
    const answers = await Promise.all([1, 2, 3].map((rows) => inspect('ok', undefined, rows)))
    expect(answers.map(({ rows }) => rows)).toEqual([1, 2, 3])
    const { dataset } = command('ok')
    const rows = await engine.preview({ model_path: 'ok', dataset, samples: [4, 0] }, {})
    expect(rows.map(({ sample }) => sample)).toEqual([4, 0])
    expect(pids()).toHaveLength(1)
  })

  it('tells what the engine refuses, and goes on', async () => {
    start()
    expect(await refused(inspect('error'))).toMatchObject({ code: 'invalid_parameters', message: 'no tokenizer' })
    expect((await inspect('ok')).rows).toBe(1)
    expect(pids()).toHaveLength(1)
  })

  it('cancels what is at work, and what waits, for who has left', async () => {
    start()
    const [first, second] = [new AbortController(), new AbortController()]
    const working = inspect('wait', first.signal)
    const waiting = inspect('wait', second.signal)
    const third = inspect('ok')
    await until(() => got('wait') === 1)
    second.abort(new Error('left'))
    await expect(waiting).rejects.toThrow('left')
    first.abort(new Error('left too'))
    await expect(working).rejects.toThrow('left too')
    expect((await third).rows).toBe(1)
    expect([got('wait'), pids().length]).toEqual([1, 1])
    await expect(inspect('ok', AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone')
  })

  it('ends a process that does not hear a cancel; the next command gets another', async () => {
    start()
    const leaving = new AbortController()
    const deaf = inspect('deaf', leaving.signal)
    const next = inspect('ok')
    await until(() => got('deaf') === 1)
    leaving.abort(new Error('left'))
    await expect(deaf).rejects.toThrow('left')
    expect((await next).rows).toBe(1)
    expect(pids()).toHaveLength(2)
    expect(crashes).toEqual([])
  })

  it('sends away whom it would keep waiting for long', async () => {
    start()
    const leaving = new AbortController()
    const all = Array.from({ length: INSPECTION_QUEUE + 1 }, () => inspect('wait', leaving.signal).catch(() => 'left'))
    expect(await refused(inspect('ok'))).toMatchObject({ code: 'rate_limited', retryAfter: 10 })
    leaving.abort()
    expect(new Set(await Promise.all(all))).toEqual(new Set(['left']))
    expect((await inspect('ok')).rows).toBe(1)
  })

  it.each(['die', 'junk'])('tells that it is gone, and starts again: %s', async (how) => {
    start()
    const work = how === 'die' ? inspect(how) : engine.preview({ ...command(how), samples: [1] }, {})
    expect(await refused(work)).toMatchObject({ code: 'unavailable', message: expect.stringContaining('Try again') })
    expect((await inspect('ok')).rows).toBe(1)
    expect(crashes).toEqual(['inspection process ended'])
  })

  it('ends when idle, and with the engine', async () => {
    start(INSPECT, 50)
    await inspect('ok')
    await until(() => !isAlive(pids()[0] ?? 0))
    const held = inspect('wait').catch((error: unknown) => error)
    await until(() => got('wait') === 1)
    await engine.close()
    expect(await held).toMatchObject({ code: 'unavailable', message: 'The server is shutting down' })
    expect(await refused(inspect('ok'))).toMatchObject({ code: 'unavailable' })
    expect(pids().filter(isAlive)).toEqual([])
  })
})

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { HealthResponse } from '@mlx-training/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ALPACA, KEY, makeTinyModel, PYTHON, ROOT, Server, workFolder } from './support.ts'

// The built command line against the real server and engine, on a tiny model.
const MAIN = join(ROOT, 'packages', 'cli', 'dist', 'main.js')
let folder: ReturnType<typeof workFolder>
let server: Server

beforeAll(async () => {
  folder = workFolder()
  makeTinyModel(join(folder.path, 'tiny'))
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server.stop()
  folder.remove()
}, 60_000)

interface Ended {
  code: number
  out: string
  error: string
}

function environment(env: Record<string, string> = {}): NodeJS.ProcessEnv {
  const { FORCE_COLOR: _, ...rest } = process.env
  // As in a CI job: what is piped has no colours there either.
  return { ...rest, CI: 'true', MLX_TRAINING_URL: server.url, MLX_TRAINING_API_KEY: KEY, ...env }
}

async function run(args: string[], env: Record<string, string> = {}): Promise<Ended> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [MAIN, ...args], {
      cwd: folder.path,
      env: environment(env),
    })
    return { code: 0, out: stdout, error: stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { code, out: stdout, error: stderr }
  }
}

const small = [
  '--model',
  './tiny',
  '--max-steps',
  '2',
  '--set',
  'dataset.max_seq_length=32',
  '--set',
  'dataset.batch_size=1',
]

test('train checks, starts and follows; what it made is listed, shown and asked', async () => {
  const tags = ['--tag', 'small', '--tag', 'for a test']
  const trained = await run(['train', '--name', 'first', '--data', ALPACA, '--method', 'lora', ...tags, ...small])
  expect(trained, trained.error).toMatchObject({ code: 0 })
  expect(trained.out).toMatch(/format +alpaca/)
  expect(trained.out).toMatch(/tokens +[\d,]+: [\d.]+% trained/)
  expect(trained.out).toMatch(/step 2 {2}loss \d/)
  expect(trained.out).toMatch(/first: completed/)

  expect((await run(['list'])).out).toMatch(/^first +completed +100% +\d/m)
  expect((await run(['list', '--tag', 'small'])).out).toMatch(/^first /m)
  expect((await run(['list', '--tag', 'smal'])).out).toBe('No experiment has the tag smal\n')
  expect((await run(['status', 'first'])).out).toMatch(/^tags +small, for a test$/m)
  const status = await run(['status', 'first', '--json'])
  expect(JSON.parse(status.out)).toMatchObject({ experiment_name: 'first', progress: { current_step: 2 } })
  expect((await run(['logs', 'first'])).out).toMatch(/step 1 .*\n.*step 2 /)
  const answer = await run(['generate', 'Hello', '--model', 'fine-tuned/first', '--max-tokens', '4', '--json'])
  expect(JSON.parse(answer.out)).toMatchObject({ model: 'fine-tuned/first', tokens_generated: 4 })

  const models = ['fine-tuned/first', './tiny', './nothing']
  const compared = await run(['compare', 'Hello', '--reference', 'Hi', '--max-tokens', '3', '--models', ...models])
  expect(compared, compared.error).toMatchObject({ code: 0 })
  expect(compared.out).toMatch(
    /^fine-tuned\/first {2}3 tokens.*ROUGE-L [\s\S]*^\.\/tiny {2}3 tokens[\s\S]*^\.\/nothing/m,
  )

  const talk = spawn(process.execPath, [MAIN, 'chat', '--model', 'fine-tuned/first', '--max-tokens', '3'], {
    env: environment(),
  })
  let said = ''
  for (const stream of [talk.stdout, talk.stderr]) stream.on('data', (chunk) => (said += chunk))
  talk.stdin.end('Hi\n/base\nHi again\n/model nobody\n/nonsense\n/quit\n')
  expect(await once(talk, 'exit')).toEqual([0, null])
  expect(said).toContain('fine-tuned/first, beside')
  expect(said).toContain('/system TEXT')
  expect(said).toMatch(/There is no model "nobody"\. There are:\n[\s\S]*^ {2}fine-tuned\/first$/m)

  const none = await run(['compare', 'Hello', '--json', '--models', './nothing', './nobody'])
  expect(none.code).toBe(1)
  expect(JSON.parse(none.out).items[0].answers).toHaveLength(2)
  expect(JSON.parse(none.error)).toMatchObject({ error_type: 'ResultError' })

  const nobody = await run(['chat', '--model', 'nobody'])
  expect(nobody).toMatchObject({ code: 5, out: '' })
  expect(nobody.error).toContain('  fine-tuned/first')
}, 240_000)

test('download writes what was learned, and no file over another', async () => {
  expect(await run(['download', 'first'])).toMatchObject({ code: 0, out: 'first.tar is written\n' })
  const tar = readFileSync(join(folder.path, 'first.tar'))
  expect(tar.includes(readFileSync(join(folder.path, 'outputs', 'first', 'adapters.safetensors')))).toBe(true)
  expect(await run(['download', 'first'])).toMatchObject({
    code: 2,
    error: expect.stringContaining('is there already'),
  })
  const gone = await run(['download', 'first', '--step', '9999', '-o', 'gone.tar'])
  expect(gone).toMatchObject({ code: 5, error: expect.stringContaining('Its checkpoints') })
})

test('evaluate tells base against tuned, is followed, listed, and shown again', async () => {
  const rows = JSON.parse(readFileSync(join(ROOT, 'examples', 'service_alpaca_eval.json'), 'utf8')) as object[]
  writeFileSync(join(folder.path, 'held.json'), JSON.stringify(rows.slice(0, 4)))
  const options = ['--max-seq-length', '128', '--generate-samples', '1', '--max-tokens', '2', '--models', './tiny']
  const ended = await run(['evaluate', 'held.json', ...options, 'fine-tuned/first'])
  expect(ended, ended.error).toMatchObject({ code: 0 })
  expect(ended.out).toMatch(/^\.\/tiny +\d\.\d+ ± [\d.]+ +\d/m)
  expect(ended.out).toMatch(/^against \.\/tiny +loss[\s\S]*^fine-tuned\/first +[−+]\d/m)
  expect(ended.out).toMatch(/^answers of +ROUGE-L/m)
  expect(ended.error).toMatch(/ev_\w+ started\n(.*\n)*.*fine-tuned\/first \(2 of 2\): \w+/)

  const [listed] = JSON.parse((await run(['evaluate', '--json'])).out) as { id: string }[]
  expect(listed?.id).toMatch(/^ev_/)
  const again = await run(['evaluate', listed?.id ?? '', '--rows'])
  expect(again.out).toMatch(/^row \d +(worst|improved|worsened)$/m)
  const json = await run(['evaluate', listed?.id ?? '', '--json'])
  expect(JSON.parse(json.out)).toMatchObject({ state: 'completed', results: [{ model: './tiny' }, {}] })
  expect((await run(['evaluate'])).out).toContain(listed?.id)
  const cancelled = await run(['evaluate', listed?.id ?? '', '--cancel'])
  expect(cancelled).toMatchObject({ code: 0, out: `${listed?.id}: completed\n` })

  expect(await run(['evaluate', 'held.json'])).toMatchObject({ code: 2, error: expect.stringContaining('--models') })
  const gone = await run(['evaluate', 'held.json', '--models', './gone'])
  expect(gone).toMatchObject({ code: 5, out: '', error: expect.stringContaining('./gone') })
  const detached = await run(['evaluate', 'held.json', '--detach', '--models', './tiny'])
  expect(detached).toMatchObject({ code: 0, out: expect.stringMatching(/^ev_\w+\n$/) })
}, 240_000)

// The last one goes on from what the first one made.
const RECIPES = ['quick-lora', 'qlora-small-memory', 'dora', 'full', 'continue']

test.each(RECIPES)(
  'recipes/%s.yaml trains',
  async (recipe) => {
    const name = recipe === 'quick-lora' ? 'quick' : recipe
    const data = join(ROOT, 'examples', recipe === 'full' ? 'service_sharegpt.json' : 'service_alpaca.json')
    const file = join(ROOT, 'recipes', `${recipe}.yaml`)
    const ended = await run(['train', file, '--name', name, '--data', data, ...small, '--no-check'])
    expect(ended, ended.error + ended.out).toMatchObject({ code: 0 })
    expect(ended.out).toContain(`${name}: completed`)
  },
  240_000,
)

test('every recipe is among them', () => {
  expect(readdirSync(join(ROOT, 'recipes')).sort()).toEqual(RECIPES.map((name) => `${name}.yaml`).sort())
})

describe('what goes wrong is one line and a status', () => {
  test.each([
    [
      'no server',
      ['list', '--url', 'http://127.0.0.1:1'],
      3,
      /No answer from http:\/\/127\.0\.0\.1:1/,
      'ConnectionError',
    ],
    [
      'a wrong key',
      ['list', '--key', 'nonsense'],
      4,
      /The API key is not valid\. Give the key with --key/,
      'AuthenticationError',
    ],
    ['no such experiment', ['status', 'nobody'], 5, /nobody/, 'NotFoundError'],
    [
      'an experiment of that name',
      ['train', '--name', 'full', '--data', ALPACA, ...small],
      6,
      /full, completed.*--ov/,
      'ConflictError',
    ],
    [
      'a name that is none',
      ['train', '--name', 'a/b', '--data', ALPACA, ...small],
      2,
      /--name can't be .*a\/b/,
      'ValidationError',
    ],
    [
      'models that took the data',
      ['evaluate', '--models', './tiny', 'held.json'],
      2,
      /data before the models/,
      'ValidationError',
    ],
    ['no such evaluation', ['evaluate', `ev_${'0'.repeat(20)}`], 5, /ev_0/, 'NotFoundError'],
    ['no such key', ['keys', 'revoke', 'nobody'], 5, /nobody/, 'NotFoundError'],
    [
      'a wrong field',
      ['train', '--data', ALPACA, ...small, '--no-check', '--epochs', '0'],
      2,
      /epochs/,
      'ValidationError',
    ],
    ['a wrong flag', ['list', '--nonsense'], 2, /unknown option/, 'ValidationError'],
    ['a state that there is not', ['list', '--state', 'done'], 2, /choices are queued, .*completed/, 'ValidationError'],
    [
      'a command that there is not',
      ['keys', 'delete', 'x'],
      2,
      /'keys delete'. There are list, create, revoke/,
      'ValidationError',
    ],
    ['a missing argument', ['status'], 2, /missing required argument/, 'ValidationError'],
  ] as const)(
    '%s',
    async (_, args, code, line, type) => {
      const ended = await run([...args])
      expect(ended).toMatchObject({ code, out: '' })
      expect(ended.error).toMatch(line)
      expect(ended.error.trim().split('\n').length).toBeLessThanOrEqual(2)
      const json = await run(['--json', ...args])
      expect(json).toMatchObject({ code, out: '' })
      expect(JSON.parse(json.error)).toMatchObject({ error_type: type, detail: expect.any(String) })
    },
    30_000,
  )

  test('--json has the answer of the server, and all that failed', async () => {
    const told = async (...args: string[]) => JSON.parse((await run([...args, '--json'])).error)
    const field = await told('train', '--data', ALPACA, ...small, '--no-check', '--epochs', '0')
    expect(field).toMatchObject({
      status_code: 422,
      error_type: 'ValidationError',
      errors: [{ field: 'epochs', given: 0 }],
      request_id: expect.stringMatching(/^req_/),
    })
    const two = await told('delete', 'nobody', 'a/b')
    expect(two).toMatchObject({ status_code: 404, error_type: 'NotFoundError' })
    expect(two.errors).toEqual([
      { field: 'nobody', message: expect.stringContaining('nobody') },
      { field: 'a/b', message: expect.any(String) },
    ])
    expect(await told()).toMatchObject({ error_type: 'ValidationError', detail: expect.stringContaining('--help') })
    expect(await run(['--json', 'list', '--help'])).toMatchObject({ code: 0, error: '' })
  })

  test('bad data are told row by row and end with 1', async () => {
    const path = join(folder.path, 'bad.jsonl')
    writeFileSync(path, '{"instruction": "a", "output": "b"}\n{"instruction": 5, "output": "c"}\n')
    const { code, out, error } = await run(['validate', 'bad.jsonl'])
    expect(code).toBe(1)
    expect(out).toMatch(/not valid[\s\S]*row 1, line 2/)
    expect(error).toMatch(/bad\.jsonl has 1 error/)
    const json = await run(['validate', 'bad.jsonl', '--json'])
    expect(json.code).toBe(1)
    expect(JSON.parse(json.out)).toMatchObject({ valid: false })
    expect(JSON.parse(json.error)).toEqual({ detail: 'bad.jsonl has 1 error', error_type: 'ResultError' })
  })
})

test('the list of data sets tells which have errors, whatever their format', async () => {
  const path = join(folder.path, 'half.jsonl')
  writeFileSync(path, '{"instruction": "a", "output": "b"}\n{"instruction": 5, "output": "c"}\n')
  expect((await run(['datasets', 'upload', 'half.jsonl'])).code).toBe(1)
  await run(['datasets', 'upload', ALPACA, '--name', 'whole'])
  const { out } = await run(['datasets'])
  expect(out).toMatch(/^\S+ +half\.jsonl +alpaca, not valid +2, 1 valid /m)
  expect(out).toMatch(/^\S+ +whole +alpaca +\d+ +\d/m)
}, 30_000)

test('a download that can not be written is told in one line, as a mistake of whoever asked', async () => {
  const { id } = JSON.parse((await run(['datasets', 'upload', ALPACA, '--json'])).out)
  const path = join(folder.path, 'nowhere', 'rows.json')
  const { code, error } = await run(['datasets', 'download', id, path])
  expect(code).toBe(2)
  expect(error).toContain(`${path} can't be written (ENOENT)`)
}, 30_000)

test('keys are made, told and revoked', async () => {
  const made = await run(['keys', 'create', 'nightly runs', '--scopes', 'train,generate', '--expires', '30d'])
  expect(made, made.error).toMatchObject({ code: 0 })
  expect(made.out).toMatch(/^mt_[0-9a-f]{12}_[0-9a-f]{64}\n$/)
  expect(made.error).toMatch(/^nightly runs \([0-9a-f]{12}\) may train, generate until \d{4}-.*shown only now/)
  const key = made.out.trim()
  expect((await run(['list', '--key', key])).code).toBe(0)
  const mayNot = await run(['keys', '--key', key])
  expect(mayNot).toMatchObject({ code: 4, out: '' })
  expect(mayNot.error).toContain('"admin"')
  const { out } = await run(['keys', 'list'])
  expect(out).toMatch(/^[0-9a-f]{12} +nightly runs +train, generate +\d{4}-/m)
  expect(out).not.toContain(key)
  const both = await run(['keys', 'revoke', 'nobody', 'nightly runs'])
  expect(both).toMatchObject({ code: 5, out: expect.stringMatching(/^nightly runs \(\w+\) is revoked\n$/) })
  expect(both.error).toContain('There is no key "nobody"')
  expect(await run(['list', '--key', key])).toMatchObject({
    code: 4,
    error: expect.stringContaining('has been revoked'),
  })
  expect(await run(['keys', 'create', 'x', '--scopes', 'write'])).toMatchObject({ code: 2, out: '' })
}, 60_000)

test('npx finds the command of a fresh clone', async () => {
  const { stdout } = await promisify(execFile)('npx', ['--no-install', 'mlx-training', '--version'], { cwd: ROOT })
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
}, 60_000)

test('a mask without colours has a mark a token', async () => {
  const { out } = await run(['validate', ALPACA, '--model', './tiny', '--mask', '0'], { NO_COLOR: '1' })
  expect(out).toMatch(/^\+ "/m)
  expect(out).not.toContain('\x1b')
  const coloured = await run(['validate', ALPACA, '--model', './tiny', '--mask', '0'], { FORCE_COLOR: '1' })
  expect(coloured.out).toContain('\x1b[32m')
}, 60_000)

test('a mask of a row that is not there is a mistake, told with the number of rows', async () => {
  const path = join(folder.path, 'three.jsonl')
  writeFileSync(
    path,
    '{"instruction": "a", "output": "b"}\n\n{"instruction": "c", "output": "d"}\n{"instruction": "e", "output": "f"}\n',
  )
  const mask = (row: string, ...more: string[]) =>
    run(['validate', 'three.jsonl', '--model', './tiny', '--mask', row, ...more])
  const missing = await mask('3')
  expect(missing).toMatchObject({ code: 2, out: '' })
  expect(missing.error).toContain('--mask 3: three.jsonl has 3 rows, counted from 0')
  expect(await mask('3', '--json')).toMatchObject({ code: 2, out: '' })
  expect(await mask('2')).toMatchObject({ code: 0, out: expect.stringMatching(/^\+ "/m) })
}, 60_000)

test('a mask of a file with errors: that of its good rows, and what is wrong with the others', async () => {
  const bad = Array.from({ length: 30 }, () => ({ instruction: 5, output: 'b' }))
  const rows = [{ instruction: 'a', output: 'b' }, ...bad, { instruction: 'c', output: 'd' }]
  writeFileSync(join(folder.path, 'some.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  const mask = (row: string, ...more: string[]) =>
    run(['validate', 'some.jsonl', '--model', './tiny', '--mask', row, ...more])
  for (const good of ['0', '31'])
    expect(await mask(good)).toMatchObject({ code: 0, out: expect.stringMatching(/^\+ "/m) })
  // The report keeps ten of a kind.
  const wrong = await mask('29')
  expect(wrong).toMatchObject({ code: 0, out: expect.stringMatching(/^row 29 {2}.*"instruction"/) })
  expect(await mask('32')).toMatchObject({ code: 2, error: expect.stringContaining('has 32 rows') })
  const json = JSON.parse((await mask('29', '--json')).out)
  expect(json.rows).toMatchObject([{ sample: 29, problem: expect.stringContaining('"instruction"'), texts: [] }])
}, 60_000)

test('a reader that leaves is no error', async () => {
  const { stdout, stderr } = await promisify(execFile)(
    'bash',
    ['-c', `set -o pipefail; "${process.execPath}" "${MAIN}" models --json | head -c 1; echo " \${PIPESTATUS[0]}"`],
    { env: environment() },
  )
  expect(stdout).toMatch(/^[[{] 0/)
  expect(stderr).toBe('')
})

test('Ctrl-C leaves the job running and says how to come back', async () => {
  const args = [
    'train',
    '--name',
    'long',
    '--data',
    ALPACA,
    ...small,
    '--max-steps',
    '100000',
    '--epochs',
    '10000',
    '--no-check',
  ]
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder.path, env: environment() })
  let out = ''
  let error = ''
  child.stderr.on('data', (chunk) => (error += chunk))
  await new Promise<void>((seen) =>
    child.stdout.on('data', (chunk) => {
      out += chunk
      if (/step 1 /.test(out)) seen()
    }),
  )
  child.kill('SIGINT')
  expect(await once(child, 'exit')).toEqual([130, null])
  expect(error).toContain('Come back with: mlx-training watch long')
  expect((await server.status('long')).status).toBe('running')
  expect((await run(['stop', 'long'])).code).toBe(0)
  await server.until('long', ({ status }) => status === 'stopped')
}, 120_000)

test.each(['bash', 'fish', 'zsh'])('completion for %s names the commands', async (shell) => {
  const { out } = await run(['completion', shell])
  expect(out).toMatch(/\bwatch\b/)
  expect(out).toMatch(shell === 'fish' ? /from keys' -a revoke$/m : /^ +keys\) words="list create revoke /m)
  if (shell !== 'bash') return
  const script = `${out}\nCOMP_WORDS=(mlx-training tr); COMP_CWORD=1; _mlx_training; echo "\${COMPREPLY[@]}"`
  expect((await promisify(execFile)('bash', ['-c', script])).stdout).toBe('train\n')
})

async function engineOf(of: Server): Promise<HealthResponse['engine']> {
  const ask = async () => (await of.request<HealthResponse>('GET', '/health')).body.engine
  await expect.poll(async () => (await ask()).state, { timeout: 60_000 }).toBe('ready')
  return ask()
}

test('doctor tells what is well and how to mend what is not', async () => {
  const engine = await engineOf(server)
  const { code, out } = await run(['doctor', '--json'], {
    HF_HUB_OFFLINE: '1',
    MLX_TRAINING_PYTHON: PYTHON,
  })
  const findings = JSON.parse(out) as { what: string; ok: boolean; mend: string | null }[]
  expect(findings.map(({ what }) => what)).toEqual([
    'node',
    'python',
    'server',
    'database',
    'engine',
    'speed',
    ...(engine.kernels === null ? [] : ['kernels']),
    'data',
    'disk',
    'hub',
  ])
  expect(findings.every(({ ok, mend }) => ok || mend !== null)).toBe(true)
  expect(code).toBe(findings.every(({ ok }) => ok) ? 0 : 1)
  const dead = await run(['doctor', '--json', '--url', 'http://127.0.0.1:1'], { HF_HUB_OFFLINE: '1' })
  expect(dead.code).toBe(1)
  expect(dead.out).toContain('mlx-training serve')
})

test('doctor and /health name the kernels that the engine uses, or why it uses none', async () => {
  const off = await Server.start(folder.path, {
    MLX_TRAINING_HOME: join(folder.path, 'without'),
    MLX_TRAINING_KERNELS: 'no',
  })
  try {
    for (const [of, env, line] of [
      [server, {}, /^(fused kernels \(\w+\): attention, |stock MLX kernels: the fused kernels are not built: )/],
      [off, { MLX_TRAINING_KERNELS: 'false' }, /^stock MLX kernels: the fused kernels are turned off \(MLX_TRAINING_/],
    ] as const) {
      const { stdout } = await promisify(execFile)(PYTHON, ['-m', 'mlx_engine.kernels'], {
        env: { ...process.env, PYTHONPATH: join(ROOT, 'engine', 'src'), ...env },
      })
      const { device, kernels } = await engineOf(of)
      const { out } = await run(['doctor', '--json', '--url', of.url], { HF_HUB_OFFLINE: '1' })
      const told = (JSON.parse(out) as { what: string; found: string; mend: string | null }[]).filter(
        ({ what }) => what === 'kernels',
      )
      if (device !== 'cpu') {
        expect([kernels, told]).toEqual([null, []])
        continue
      }
      expect(kernels).toBe(stdout.trim())
      expect(kernels).toMatch(line)
      if (of === off) expect(told[0]?.mend).toContain('without that setting')
      expect(told).toMatchObject([{ found: kernels, mend: kernels?.startsWith('fused') ? null : expect.any(String) }])
    }
  } finally {
    await off.stop()
  }
}, 120_000)

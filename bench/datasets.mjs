// npm run bench:datasets: our checks, JSON.parse alone, Python's json and pandas in turn, on the same generated files.
//   npm run bench:datasets -- [--megabytes 10,1000] [--rounds N] [--minutes N] [--readers a,b] [--json PATH]
// bench/README.md says what is measured and how.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { ask, fail, PYTHON, ROOT, Stop } from '../scripts/lib.mjs'
import { writeDataset } from './lib/data-files.mjs'
import { missed, targetsOf } from './lib/data-targets.mjs'
import { commit, loadAverage, machine, round } from './lib/machine.mjs'

const WORK = join(ROOT, '.bench', `datasets-${process.pid}`)
const PANDAS = join(ROOT, '.bench', 'pandas', 'bin', 'python')
const node = (reader) => [
  process.execPath,
  '--max-semi-space-size=64',
  join(ROOT, 'bench', 'lib', 'data-readers.mjs'),
  reader,
]
const python = (executable, reader) => [executable, join(ROOT, 'bench', 'peers', 'data_readers.py'), reader]

const READERS = {
  'json-parse': () => node('json-parse'),
  ours: () => node('ours'),
  'ours-2-threads': () => node('ours-2-threads'),
  'python-json': () => python(PYTHON, 'json'),
  pandas: () => (existsSync(PANDAS) ? python(PANDAS, 'pandas') : null),
}

const { values: options } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '10,1000' },
    rounds: { type: 'string', default: '2' },
    minutes: { type: 'string', default: '4' },
    readers: { type: 'string', default: Object.keys(READERS).join(',') },
    json: { type: 'string', default: join(ROOT, 'bench', 'results', 'datasets.json') },
  },
})
process.once('exit', () => rmSync(WORK, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))
try {
  main()
} catch (error) {
  fail(error)
}

function main() {
  if (process.platform !== 'linux') throw new Stop('The benchmarks read /proc: they run on Linux only.')
  if (!existsSync(join(ROOT, 'packages/server/dist/datasets/threads/check.js')))
    throw new Stop('The server is not built: run "npm run build" first.')
  const names = options.readers.split(',')
  const unknown = names.find((name) => !(name in READERS))
  if (unknown) throw new Stop(`--readers: there is no ${unknown}; there are ${Object.keys(READERS).join(', ')}`)
  const found = makePandas()
  mkdirSync(WORK, { recursive: true })
  const before = loadAverage()
  const start = performance.now()
  /** Once the time is up every reader has one round left at each file. */
  const roundsLeft = () => (performance.now() - start < Number(options.minutes) * 60_000 ? Number(options.rounds) : 1)
  const files = []
  for (const megabytes of options.megabytes.split(',').map(Number))
    for (const kind of ['alpaca', 'sharegpt'])
      for (const form of ['jsonl', 'json']) {
        const path = join(WORK, `${kind}-${megabytes}.${form}`)
        const bytes = writeDataset(path, kind, form, megabytes * 1e6)
        const readers = Object.fromEntries(names.map((name) => [name, best(name, path, bytes, roundsLeft)]))
        rmSync(path)
        show(`${kind}, ${megabytes} MB, ${form}`, readers)
        files.push({ kind, form, bytes, readers })
      }
  const targets = targetsOf(files)
  console.log('\nTargets')
  for (const { what, wanted, got, ok } of targets)
    console.log(`  ${ok ? 'pass' : 'FAIL'}  ${what}: ${got} (wanted: ${wanted})`)
  const result = { benchmark: 'datasets', date: new Date().toISOString(), ...commit(), machine: machine() }
  const context = {
    load_average_before: before,
    node: process.versions.node,
    pandas: found,
    rounds: Number(options.rounds),
  }
  const file = resolve(options.json)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify({ ...result, ...context, targets, files }, null, 1)}\n`)
  if (targets.some(missed)) console.log(`\n${targets.filter(missed).length} of ${targets.length} targets missed`)
  console.log(`\nWritten to ${relative(process.cwd(), file)}`)
}

/** The fastest of the rounds; null where a reader can't read such a file. */
function best(name, path, bytes, rounds) {
  const [command, ...args] = READERS[name](path) ?? []
  if (!command) return null
  let fastest = null
  for (let i = 0; i < rounds(); i++) {
    const { status, stdout, stderr } = spawnSync(command, [...args, path], { encoding: 'utf8' })
    if (status !== 0) return { failed: stderr.trim().split('\n').at(-1) ?? `exit status ${status}` }
    const { seconds, cpu_seconds, peak_mb } = JSON.parse(stdout.trim().split('\n').at(-1))
    if (fastest === null || seconds < fastest.seconds)
      fastest = {
        seconds: round(seconds, 3),
        cpu_seconds: round(cpu_seconds, 3),
        peak_mb: round(peak_mb, 0),
        mb_per_second: round(bytes / 1e6 / seconds, 0),
        mb_per_cpu_second: round(bytes / 1e6 / cpu_seconds, 0),
      }
  }
  return fastest
}

function show(title, readers) {
  console.log(`\n${title}`)
  const base = readers['json-parse']
  for (const [name, run] of Object.entries(readers)) {
    if (run === null || run.failed) {
      console.log(`  ${name.padEnd(16)} ${run?.failed ?? 'left out'}`)
      continue
    }
    const ratio = base?.seconds ? `${round(base.seconds / run.seconds, 2)} × JSON.parse` : ''
    const cpu = base?.seconds ? `, ${round(base.cpu_seconds / run.cpu_seconds, 2)} × by CPU time` : ''
    console.log(
      `  ${name.padEnd(16)} ${String(run.mb_per_second).padStart(5)} MB/s ${run.cpu_seconds} CPU s ${run.peak_mb} MB  ${ratio}${cpu}`,
    )
  }
}

/** pandas in an environment of its own; null, with a word, where it can't be had. */
function makePandas() {
  if (!existsSync(PANDAS)) {
    console.log('• pandas into .bench/pandas …')
    const uv = ask('uv', ['--version']) === null ? join(dirname(PYTHON), 'uv') : 'uv'
    const folder = join(ROOT, '.bench', 'pandas')
    ask(uv, ['venv', '--quiet', '--python', PYTHON, folder])
    if (ask(uv, ['pip', 'install', '--quiet', '--python', PANDAS, 'pandas']) === null) {
      rmSync(folder, { recursive: true, force: true })
      console.log('  pandas is left out: it could not be installed')
      return null
    }
  }
  return ask(PANDAS, ['-c', 'import pandas; print(pandas.__version__)'])
}

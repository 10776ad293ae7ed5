// npm run bench:train: our trainer and its peers in turn, on the same rows, the same model and the same LoRA.
//   npm run bench:train -- [--data ALPACA.json] [--steps N] [--rounds N] [--peers a,b] [--random SHAPE] [--json PATH]
//   npm run bench:train -- --growth [--series a,b]
//   npm run bench:train -- --model-shape smollm2-135m,qwen-0.5b,gemma-0.5b
// bench/README.md says what is measured and how.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BUNDLED_MODEL, fail, ROOT, Stop } from '../scripts/lib.mjs'
import { compare } from './lib/compare.mjs'
import { MODEL, PEERS_PYTHON, requireBase, requirePeers, requireProject, WORK } from './lib/environment.mjs'
import { grow } from './lib/growth.mjs'
import { commit, loadAverage, machine, versions } from './lib/machine.mjs'
import { PEERS } from './lib/peers.mjs'
import { choose, readAlpaca } from './lib/rows.mjs'
import { measureSteps } from './lib/steps.mjs'

const HELD_OUT_ROWS = 48
const SETTINGS = {
  batch_size: 4,
  max_seq_length: 512,
  rank: 8,
  alpha: 16,
  targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
  learning_rate: 2e-4,
  weight_decay: 0,
  max_grad_norm: 1, // mlx_lm.lora has none
  seed: 1,
}

const options = (() => {
  try {
    return parseArgs({
      options: {
        data: { type: 'string', default: join(ROOT, 'examples', 'service_alpaca.json') },
        steps: { type: 'string', default: '64' },
        rounds: { type: 'string', default: '1' },
        peers: { type: 'string' },
        json: { type: 'string' },
        growth: { type: 'boolean', default: false },
        random: { type: 'string' },
        series: { type: 'string' },
        'model-shape': { type: 'string' },
      },
    }).values
  } catch (error) {
    return fail(new Stop(error.message))
  }
})()

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130)) // which ends what is running
await main().catch(fail)

async function main() {
  requireProject()
  if (options['model-shape']) return shapes(options['model-shape'].split(','))
  const steps = wholeNumber('steps', 2)
  const rounds = wholeNumber('rounds', 1)
  const peers = chosenPeers()
  const data = resolve(options.data)
  const conversations = readAlpaca(data)
  // A random model is made and looked at by PyTorch whoever trains on it.
  const withPyTorch = !options.growth && (options.random !== undefined || peers.some((name) => !PEERS[name].plain))
  let base = null
  if (withPyTorch) {
    await requirePeers()
    base = await requireBase(options.random)
  }
  const work = join(WORK, `run-${process.pid}`) // stays, with its logs, when something fails
  const context = {
    benchmark: options.growth ? 'train-growth' : options.random ? `train-${options.random}` : 'train',
    date: new Date().toISOString(),
    ...commit(),
    machine: machine(),
    load_average: loadAverage(),
    versions: versions(withPyTorch ? PEERS_PYTHON : null),
    settings: { model: options.random ?? BUNDLED_MODEL, ...SETTINGS },
    data: { file: data.startsWith(ROOT) ? relative(ROOT, data) : data.split('/').at(-1), sha256: sha256(data) },
  }
  const found = options.growth
    ? await grow({ conversations, settings: SETTINGS, work, only: options.series?.split(',') ?? [] })
    : await compare({
        names: peers,
        model: options.random ? base.folder : MODEL,
        base: base?.folder,
        shape: options.random ?? 'smollm2-135m',
        rows: choose(conversations, steps * SETTINGS.batch_size, HELD_OUT_ROWS),
        settings: SETTINGS,
        steps,
        rounds,
        work,
      })
  write({ ...context, ...(base && { base: base.logits }), ...found })
  rmSync(work, { recursive: true, force: true })
}

/** Where a step's time goes, over random models of these shapes. */
function shapes(names) {
  const context = { ...commit(), machine: machine(), load_average: loadAverage(), versions: versions(null) }
  write({ benchmark: 'train-steps', date: new Date().toISOString(), ...context, steps: measureSteps(names) })
}

function write(found) {
  const file = resolve(options.json ?? join(ROOT, 'bench', 'results', `${found.benchmark}.json`))
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(found, null, 1)}\n`)
  console.log(`\nWritten to ${relative(process.cwd(), file)}`)
}

function chosenPeers() {
  const all = Object.keys(PEERS)
  if (!options.peers) return all.filter((name) => !PEERS[name].optional)
  const names = options.peers.split(',')
  const unknown = names.filter((name) => !all.includes(name))
  if (unknown.length) throw new Stop(`--peers: there is no ${unknown.join(', ')}; there are ${all.join(', ')}`)
  return names
}

function wholeNumber(name, least) {
  const value = Number(options[name])
  if (!Number.isInteger(value) || value < least) throw new Stop(`--${name} must be a whole number, ${least} or more`)
  return value
}

function sha256(path) {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

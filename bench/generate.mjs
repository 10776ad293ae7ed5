// npm run bench:generate: our server, mlx_lm.server and llama.cpp's in turn, with the same model, adapters and prompts.
//   npm run bench:generate -- [--tokens N] [--rounds N] [--servers a,b] [--scenarios a,b] [--no-training] [--json PATH]
// bench/README.md says what is measured and how. Ends with 1 when a target is missed.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BUNDLED_MODEL, fail, ROOT, Stop } from '../scripts/lib.mjs'
import { besideTraining } from './lib/beside-training.mjs'
import { requireProject } from './lib/environment.mjs'
import { commit, loadAverage, machine, round, versions } from './lib/machine.mjs'
import { ADAPTERS, RESIDENT, SCENARIOS, story } from './lib/scenarios.mjs'
import { makeAdapters, SERVERS } from './lib/servers.mjs'

const TRAINING_BATCHES = 6

const { values: options } = parseArgs({
  allowNegative: true,
  options: {
    tokens: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '1' },
    servers: { type: 'string', default: Object.keys(SERVERS).join(',') },
    scenarios: { type: 'string', default: Object.keys(SCENARIOS).join(',') },
    training: { type: 'boolean', default: true },
    json: { type: 'string', default: join(ROOT, 'bench', 'results', 'generate.json') },
  },
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130)) // which ends what is running
await main().catch(fail)

async function main() {
  requireProject()
  const names = chosen('servers', SERVERS)
  const scenarios = chosen('scenarios', SCENARIOS)
  const tokens = Number(options.tokens)
  const adapters = scenarios.includes('resident')
    ? RESIDENT
    : scenarios.some((name) => SCENARIOS[name].adapters)
      ? ADAPTERS
      : 0
  if (adapters > 0) console.log(`• ${adapters} adapters …`)
  await makeAdapters(adapters)
  const load = loadAverage()
  const results = await measure(names, scenarios, tokens)
  const training = options.training ? await besideTraining(tokens, TRAINING_BATCHES) : null
  const found = {
    benchmark: 'generate',
    date: new Date().toISOString(),
    ...commit(),
    machine: machine(),
    versions: versions(null),
    load_average: load,
    settings: { model: BUNDLED_MODEL, tokens, rounds: Number(options.rounds), adapters: ADAPTERS, resident: RESIDENT },
    results,
    ratios: ratios(results),
    beside_training: training,
  }
  const judged = targets(found)
  const file = resolve(options.json)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(
    file,
    `${JSON.stringify({ ...found, targets: judged.map(([what, value, target, met]) => ({ what, found: value, target, met })) }, null, 1)}\n`,
  )
  console.log(`\n${JSON.stringify(found.ratios, null, 1)}\n`)
  for (const [what, value, target, met] of judged)
    console.log(`${met ? 'met   ' : 'MISSED'}  ${what.padEnd(54)} ${String(value).padStart(7)}  ${target}`)
  console.log(`Written to ${relative(process.cwd(), file)}`)
  if (judged.some(([, , , met]) => !met)) process.exitCode = 1
}

function chosen(option, all) {
  const names = options[option].split(',')
  const unknown = names.find((name) => !(name in all))
  if (unknown) throw new Stop(`--${option}: there is no ${unknown}; there are ${Object.keys(all).join(', ')}`)
  return names
}

async function measure(names, scenarios, tokens) {
  const running = []
  const runs = Object.fromEntries(names.map((name) => [name, {}]))
  try {
    for (const name of names) running.push({ name, ...(await SERVERS[name].start()) })
    for (const { ask } of running) await ask(story(null, 4))
    // All in turn in each: what else the machine does then meets everybody alike.
    for (let round = 0; round < Number(options.rounds); round++)
      for (const scenario of scenarios)
        for (const { name, ask } of running) {
          const { run, adapters, resident } = SCENARIOS[scenario]
          if ((adapters && !SERVERS[name].adapters) || (resident && name !== 'ours')) continue
          runs[name][scenario] ??= []
          runs[name][scenario].push(await run(ask, tokens))
          console.log(`  ${scenario}, ${name}: ${JSON.stringify(runs[name][scenario].at(-1))}`)
        }
  } finally {
    await Promise.all(running.map(({ stop }) => stop()))
  }
  return names.map((name) => ({
    name,
    title: SERVERS[name].title,
    ...Object.fromEntries(Object.entries(runs[name]).map(([scenario, all]) => [scenario, best(all)])),
  }))
}

/** Of several rounds: nothing but disturbance makes a figure worse. */
function best(all) {
  return Object.fromEntries(
    Object.keys(all[0]).map((figure) => {
      const values = all.map((one) => one[figure])
      return [figure, figure.endsWith('per_second') ? Math.max(...values) : Math.min(...values)]
    }),
  )
}

/** Ours over each other server: above 1 is faster. */
function ratios(results) {
  const ours = results.find(({ name }) => name === 'ours')
  if (!ours) return {}
  const over = (other) => {
    const both = Object.keys(SCENARIOS).filter(
      (name) => ours[name]?.tokens_per_second && other[name]?.tokens_per_second,
    )
    const each = (figure, ratio) =>
      Object.fromEntries(both.map((name) => [name, round(ratio(ours[name][figure], other[name][figure]), 2)]))
    const first = (figure) => round(other.prefix[figure] / ours.prefix[figure], 2)
    return {
      tokens_per_second: each('tokens_per_second', (a, b) => a / b),
      first_token: each('first_token_seconds', (a, b) => b / a),
      ...(ours.prefix &&
        other.prefix && {
          prefix: { miss: first('miss_first_token_seconds'), hit: first('hit_first_token_seconds') },
        }),
    }
  }
  return Object.fromEntries(results.filter((other) => other !== ours).map((other) => [other.name, over(other)]))
}

/** [what, found, target, met], of what was measured. */
function targets({ results, ratios, beside_training: beside }) {
  const ours = results.find(({ name }) => name === 'ours') ?? {}
  const { prefix, adapter_switch: change, resident } = ours
  const judged = []
  const judge = (what, value, target, met) => judged.push([what, round(value, 2), target, met])
  const different = ratios['mlx-lm']?.tokens_per_second.different_adapters
  if (different) judge('8 different adapters, over mlx_lm.server', different, 'at least 2', different >= 2)
  if (change) judge('change of adapter, ms', change.milliseconds, 'at most 50', change.milliseconds <= 50)
  if (prefix) {
    const faster = prefix.miss_first_token_seconds / prefix.hit_first_token_seconds
    judge('first token of a known prefix, times faster', faster, 'at least 5', faster >= 5)
  }
  if (resident) {
    const slower = resident.few_per_second / resident.all_per_second
    judge(`${RESIDENT} adapters in memory over 1, times slower`, slower, 'at most 1.1', slower <= 1.1)
  }
  if (beside) {
    const { giving_way: yes, not_giving_way: no } = beside
    const faster = yes.tokens_per_second / no.tokens_per_second
    judge('answers beside training that gives way, times faster', faster, 'at least 1.2', faster >= 1.2)
    const kept = yes.training_rows_per_second.beside / yes.training_rows_per_second.alone
    judge('training beside answers, of its speed alone', kept, 'at least 0.2', kept >= 0.2)
  }
  return judged
}

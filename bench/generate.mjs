// npm run bench:generate: our server and mlx_lm.server in turn, with the same model, adapters and prompts.
//   npm run bench:generate -- [--tokens N] [--rounds N] [--servers a,b] [--json PATH]
// bench/README.md says what is measured and how.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BUNDLED_MODEL, fail, ROOT, Stop } from '../scripts/lib.mjs'
import { requireProject } from './lib/environment.mjs'
import { commit, loadAverage, machine, round, versions } from './lib/machine.mjs'
import { makeAdapters, SERVERS } from './lib/servers.mjs'

const ADAPTERS = 8
const STREAMS = [1, 4, 8]
const SWITCHES = 6
const SENTENCE = 'The harbour master wrote down every ship that came in, its cargo and the hour of the tide. '
const PREFIX_SENTENCES = 50 // about 1,000 tokens

const SCENARIOS = {
  ...Object.fromEntries(
    STREAMS.map((n) => [`streams_${n}`, (ask, tokens) => several(ask, Array(n).fill(null), tokens)]),
  ),
  same_adapter: (ask, tokens) => several(ask, Array(ADAPTERS).fill(0), tokens),
  different_adapters: (ask, tokens) => several(ask, [...Array(ADAPTERS).keys()], tokens),
  prefix,
  adapter_switch: switching,
}

let asked = 0

const { values: options } = parseArgs({
  options: {
    tokens: { type: 'string', default: '48' },
    rounds: { type: 'string', default: '2' },
    servers: { type: 'string', default: Object.keys(SERVERS).join(',') },
    json: { type: 'string', default: join(ROOT, 'bench', 'results', 'generate.json') },
  },
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130)) // which ends what is running
await main().catch(fail)

async function main() {
  requireProject()
  const names = options.servers.split(',')
  const unknown = names.find((name) => !(name in SERVERS))
  if (unknown) throw new Stop(`--servers: there is no ${unknown}; there are ${Object.keys(SERVERS).join(', ')}`)
  console.log(`• ${ADAPTERS} adapters …`)
  await makeAdapters(ADAPTERS)
  const running = []
  const runs = Object.fromEntries(names.map((name) => [name, {}]))
  const load = loadAverage()
  try {
    for (const name of names) running.push({ name, ...(await SERVERS[name].start()) })
    for (const { ask } of running) await ask(story(null, 4))
    // All in turn in each: what else the machine does then meets everybody alike.
    for (let round = 0; round < Number(options.rounds); round++)
      for (const [scenario, run] of Object.entries(SCENARIOS))
        for (const { name, ask } of running) {
          runs[name][scenario] ??= []
          runs[name][scenario].push(await run(ask, Number(options.tokens)))
          console.log(`  ${scenario}, ${name}: ${JSON.stringify(runs[name][scenario].at(-1))}`)
        }
  } finally {
    await Promise.all(running.map(({ stop }) => stop()))
  }
  const results = names.map((name) => ({
    name,
    title: SERVERS[name].title,
    ...Object.fromEntries(Object.entries(runs[name]).map(([scenario, all]) => [scenario, best(all)])),
  }))
  const file = resolve(options.json)
  mkdirSync(dirname(file), { recursive: true })
  const found = {
    benchmark: 'generate',
    date: new Date().toISOString(),
    ...commit(),
    machine: machine(),
    versions: versions(null),
    load_average: load,
    settings: {
      model: BUNDLED_MODEL,
      tokens: Number(options.tokens),
      rounds: Number(options.rounds),
      adapters: ADAPTERS,
    },
    results,
    ratios: ratios(results),
  }
  writeFileSync(file, `${JSON.stringify(found, null, 1)}\n`)
  console.log(`\n${JSON.stringify(found.ratios, null, 1)}\nWritten to ${relative(process.cwd(), file)}`)
}

/** A prompt begins with its number, so that nothing of it is known from before. */
function story(adapter, maxTokens) {
  const content = `${++asked}: tell a long story about a harbour, a storm and a lost letter.`
  return { messages: [{ role: 'user', content }], adapter, maxTokens }
}

async function several(ask, adapters, maxTokens) {
  const start = performance.now()
  const answers = await Promise.all(adapters.map((adapter) => ask(story(adapter, maxTokens))))
  const seconds = (performance.now() - start) / 1000
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0)
  return {
    tokens,
    tokens_per_second: round(tokens / seconds, 1),
    first_token_seconds: round(median(answers.map((answer) => answer.firstSeconds)), 3),
  }
}

async function prefix(ask) {
  const system = `${++asked}. ${SENTENCE.repeat(PREFIX_SENTENCES)}`
  const question = async (content) =>
    await ask({
      messages: [
        { role: 'system', content: system },
        { role: 'user', content },
      ],
      adapter: null,
      maxTokens: 2,
    })
  const miss = await question('Who wrote?')
  const hit = await question('What came in?')
  return {
    prompt_tokens: miss.promptTokens,
    miss_first_token_seconds: round(miss.firstSeconds, 3),
    hit_first_token_seconds: round(hit.firstSeconds, 3),
  }
}

/** One token from an adapter after one from another, less what it takes after one from itself. */
async function switching(ask) {
  const switched = []
  const stayed = []
  for (let i = 0; i < SWITCHES; i++)
    for (const times of [switched, stayed]) times.push((await ask(story(i % 2, 1))).seconds)
  return { milliseconds: round(Math.max(0, median(switched) - median(stayed)) * 1000, 1) }
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
  const speeds = Object.keys(SCENARIOS).filter((scenario) => ours[scenario].tokens_per_second)
  const over = (other) => ({
    tokens_per_second: Object.fromEntries(
      speeds.map((name) => [name, round(ours[name].tokens_per_second / other[name].tokens_per_second, 2)]),
    ),
    first_token: {
      miss: round(other.prefix.miss_first_token_seconds / ours.prefix.miss_first_token_seconds, 2),
      hit: round(other.prefix.hit_first_token_seconds / ours.prefix.hit_first_token_seconds, 2),
    },
  })
  return Object.fromEntries(results.filter((other) => other !== ours).map((other) => [other.name, over(other)]))
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2
}

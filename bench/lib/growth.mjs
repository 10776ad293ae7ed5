// How our trainer's cost grows: sequence length, rank, rows, processes.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { Stop } from '../../scripts/lib.mjs'
import { MODEL } from './environment.mjs'
import { loadAverage, round } from './machine.mjs'
import { cpuBetween } from './measure.mjs'
import { runOurs, trainCommand } from './ours.mjs'
import { columns, fixed } from './report.mjs'
import { conversation, writeSnapshot } from './rows.mjs'

const CHARACTERS_PER_TOKEN = 8 // more than any text of the data has, so that every row is cut to the length asked for
const STEPS = 4

/** `only`: names of series, all if empty. */
export async function grow({ conversations, settings, work, only }) {
  const series = seriesOf(conversations, settings)
  const unknown = only.filter((name) => !series.some(({ parameter }) => parameter === name))
  if (unknown.length)
    throw new Stop(
      `--series: there is no ${unknown.join(', ')}; there are ${series.map((s) => s.parameter).join(', ')}`,
    )
  const found = []
  for (const { parameter, values, again, command } of series) {
    if (only.length && !only.includes(parameter)) continue
    const points = []
    for (const value of values) {
      const folder = join(work, `${parameter}-${value}`)
      const { rows, ...rest } = command(value)
      const snapshot = writeSnapshot(join(folder, 'rows.jsonl'), rows)
      const task = { model: MODEL, cache: join(folder, 'cache'), ...rest, rows: snapshot }
      const first = await point(task, join(folder, 'first'))
      // The second time finds the rows tokenised.
      const second = again ? await point(task, join(folder, 'second')) : null
      rmSync(folder, { recursive: true, force: true })
      points.push({ value, ...first, ...(second && { startup_again_seconds: second.startup_seconds }) })
      process.stdout.write('.')
    }
    process.stdout.write('\r')
    console.log(`${table(parameter, points)}\n`)
    found.push({ parameter, points })
  }
  return { growth: found }
}

/** What a series varies, and the Train command's fields for each value. */
function seriesOf(conversations, settings) {
  const some = repeated(conversations, 4 * STEPS * settings.batch_size)
  return [
    {
      parameter: 'length',
      values: [128, 256, 512, 1024, 2048],
      // One row a step, so that a step has as many tokens as the row.
      command: (length) => ({
        settings: { ...settings, batch_size: 1, max_seq_length: length },
        rows: longRows(conversations, length, STEPS),
      }),
    },
    {
      parameter: 'rank',
      values: [4, 8, 16, 32, 64],
      command: (rank) => ({
        settings: { ...settings, rank, alpha: 2 * rank },
        rows: repeated(conversations, STEPS * settings.batch_size),
      }),
    },
    {
      parameter: 'rows',
      values: [100, 1000, 10_000, 100_000],
      again: true,
      command: (count) => ({ settings, rows: repeated(conversations, count), max_steps: STEPS }),
    },
    { parameter: 'cores', values: [1, 2], command: (cores) => ({ settings, rows: some, cores }) },
    { parameter: 'ranks', values: [1, 2], command: (ranks) => ({ settings, rows: some, ranks }) },
  ]
}

async function point({ cores, ...task }, output) {
  const load = loadAverage()
  const log = `${output}.log`
  const { events, peakMemoryMb, samples } = await runOurs(trainCommand({ ...task, output }), log, cores)
  const ready = events.find(({ event }) => event === 'ready')
  const steps = events.filter(({ event }) => event === 'step')
  const ended = events.at(-1)
  if (ended?.event !== 'finished') throw new Stop(`The run did not finish: ${ended?.message ?? 'it died'}; see ${log}`)
  // Without the first step, which warms up.
  const seconds = steps.at(-1).at - steps[0].at
  const tokens = steps.slice(1).reduce((total, step) => total + step.tokens, 0)
  return {
    steps: steps.length,
    tokens_per_second: round(tokens / seconds, 1),
    seconds_per_step: round(seconds / (steps.length - 1), 3),
    startup_seconds: round(ready.at, 2),
    peak_memory_mb: round(peakMemoryMb, 0),
    others_cores: round(cpuBetween(samples, ready.at, steps.at(-1).at).othersCores, 2),
    load_average: load,
    about: Object.assign({}, ...events.map(({ about }) => about)),
  }
}

/** Rows that are cut to `length` tokens: the answers of the data one after another. */
function longRows(conversations, length, count) {
  const text = conversations.map(([, answer]) => answer.content).join('\n')
  const least = length * CHARACTERS_PER_TOKEN
  const endless = text.repeat(Math.ceil((count * least) / text.length) + 1)
  return Array.from({ length: count }, (_, i) => conversation('Go on.', endless.slice(i * least, (i + 1) * least)))
}

/** Rows of the data again and again, no two alike. */
function repeated(conversations, count) {
  return Array.from({ length: count }, (_, i) => {
    const [question, answer] = conversations[i % conversations.length]
    const turn = Math.floor(i / conversations.length)
    return conversation(turn ? `${question.content} (${turn})` : question.content, answer.content)
  })
}

function table(parameter, points) {
  const heads = [parameter, 'tok/s', 's/step', 'start s', 'again s', 'peak GB']
  return columns([
    heads,
    ...points.map((point) => [
      String(point.value),
      fixed(point.tokens_per_second, 1),
      fixed(point.seconds_per_step, 3),
      fixed(point.startup_seconds, 1),
      fixed(point.startup_again_seconds, 1),
      fixed(point.peak_memory_mb / 1000, 2),
    ]),
  ])
}

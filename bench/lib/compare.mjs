// Everybody in turn on the same rows, then one judge over all adapters.
import { join } from 'node:path'
import { PYTHON, Stop } from '../../scripts/lib.mjs'
import { askJson } from './environment.mjs'
import { loadAverage, round } from './machine.mjs'
import { cpuBetween, sum } from './measure.mjs'
import { PEERS, SLOW_STEPS } from './peers.mjs'
import { table } from './report.mjs'
import { writeSnapshot } from './rows.mjs'
import { measureSteps } from './steps.mjs'
import { targetsOf } from './train-targets.mjs'

// With fewer steps than this the first one counts like the others: it is a smaller part of the noise than they are.
const STEPS_TO_WARM_UP = 8

/** `model`: ours, `base`: the same for the peers, `shape`: a random one of which steps are looked at. */
export async function compare({ names, model, base, shape, rows, settings, steps, rounds, work }) {
  const whole = writeSnapshot(join(work, 'rows', 'train.jsonl'), rows.train)
  const few = writeSnapshot(
    join(work, 'few-rows', 'train.jsonl'),
    rows.train.slice(0, SLOW_STEPS * settings.batch_size),
  )
  const heldOut = writeSnapshot(join(work, 'held-out', 'test.jsonl'), rows.heldOut)
  const runs = Object.fromEntries(names.map((name) => [name, []]))
  const failed = {}
  const counts = judge(model, settings, ['--count', whole.path, few.path, heldOut.path])
  for (let i = 1; i <= rounds; i++)
    for (const name of names) {
      const { slow, title, run } = PEERS[name]
      if (slow && i > 1) continue
      process.stdout.write(`• ${title}${rounds > 1 ? ` (${i} of ${rounds})` : ''} … `)
      const task = {
        model,
        base,
        rows: slow ? few : whole,
        steps: slow ? Math.min(SLOW_STEPS, steps) : steps,
        output: join(work, `${name}-${i}`),
        log: join(work, `${name}-${i}.log`),
        settings,
      }
      const load = loadAverage()
      try {
        const figures = summarise(await run(task), counts[task.rows.path], task)
        runs[name].push({ ...figures, load_average: load, output: task.output })
        console.log(`${figures.tokens_per_second} tok/s, ${figures.seconds} s`)
      } catch (error) {
        if (!(error instanceof Stop) || name === 'ours') throw error
        failed[name] = error.message // the others are worth their figures all the same
        console.log(error.message)
      }
    }
  const best = fastest(runs)
  const judged = judge(model, settings, ['--held-out', heldOut.path, '--adapters', ...adapters(best)])
  const results = best.map(({ output, ...figures }) => ({ ...figures, held_out_loss: round(judged[output], 4) }))
  const found = {
    rows: { train: counts[whole.path], held_out: counts[heldOut.path], base_loss: round(judged.base, 4) },
    steps,
    rounds,
    results,
    ratios: ratios(results),
    targets: targetsOf(results),
    failed,
  }
  console.log(`\n${table(found)}`)
  return { ...found, steps_of_shapes: measureSteps([shape]) }
}

/** Figures of one run. The first step, which compiles and warms up, counts as the average of the others; what it takes
 *  longer belongs to the start. Not all peers say how many tokens each step had, and all have the same in sum. */
function summarise({ events, seconds, peakMemoryMb, code, signal, samples }, counts, { steps, log }) {
  const error = events.find(({ event }) => event === 'error')
  const ready = events.find(({ event }) => event === 'ready')
  const taken = events.filter(({ event }) => event === 'step')
  if (error || code !== 0 || !ready || taken.length !== steps)
    throw new Stop(
      `it ended with ${signal ?? code} after ${taken.length} of ${steps} steps${error ? `: ${error.message}` : ''}; see ${log}`,
    )
  const first = taken[0]
  const last = taken.at(-1)
  const duration = steps < STEPS_TO_WARM_UP ? last.at - ready.at : ((last.at - first.at) * steps) / (steps - 1)
  const said = sum(taken, ({ tokens }) => tokens ?? 0)
  if (said > 0 && said !== counts.tokens)
    throw new Stop(`it trained ${said} tokens where the rows have ${counts.tokens}; see ${log}`)
  const positions = sum(taken, (step) => step.positions ?? 0)
  const { cpuSeconds, othersCores } = cpuBetween(samples, ready.at, last.at)
  const training = samples.filter(({ at }) => at <= last.at)
  return {
    steps,
    tokens: counts.tokens,
    trained_tokens: counts.trained_tokens,
    tokens_per_second: round(counts.tokens / duration, 1),
    trained_tokens_per_second: round(counts.trained_tokens / duration, 1),
    padding_share: said > 0 ? round(1 - said / positions, 3) : null,
    startup_seconds: round(last.at - duration, 1),
    seconds: round(seconds, 1),
    cpu_seconds_per_1000_tokens: round(cpuSeconds && (cpuSeconds / counts.tokens) * 1000, 2),
    others_cores: round(othersCores, 2),
    peak_memory_mb: round(peakMemoryMb, 0),
    peak_memory_until_last_step_mb: round(Math.max(...training.map(({ memoryMb }) => memoryMb)), 0),
    about: Object.assign({}, ...events.map(({ about }) => about)),
    notes: events.filter(({ event }) => event === 'note').map(({ message }) => message),
  }
}

/** The fastest run of each: nothing but disturbance makes a run slower. */
function fastest(runs) {
  const ran = Object.entries(runs).filter(([, all]) => all.length > 0)
  return ran.map(([name, all]) => ({
    name,
    title: PEERS[name].title,
    ...all.reduce((a, b) => (b.tokens_per_second > a.tokens_per_second ? b : a)),
    tokens_per_second_of_rounds: all.map((run) => run.tokens_per_second),
  }))
}

/** To be judged: of those that trained all rows. */
const adapters = (results) =>
  results.filter(({ name }) => !PEERS[name].slow).map(({ name, output }) => `${PEERS[name].adapter}:${output}`)

const judge = (model, settings, args) =>
  askJson(PYTHON, [
    'bench/lib/evaluate.py',
    ...['--base', model, '--max-seq-length', String(settings.max_seq_length)],
    ...args,
  ])

/** Ours over each peer: above 1 is faster, or more memory. */
function ratios(results) {
  const ours = results.find(({ name }) => name === 'ours')
  if (!ours) return {}
  return Object.fromEntries(
    results
      .filter((peer) => peer !== ours)
      .map((peer) => [
        peer.name,
        {
          tokens_per_second: round(ours.tokens_per_second / peer.tokens_per_second, 2),
          trained_tokens_per_second: round(ours.trained_tokens_per_second / peer.trained_tokens_per_second, 2),
          peak_memory: round(ours.peak_memory_mb / peer.peak_memory_mb, 2),
          startup: round(ours.startup_seconds / peer.startup_seconds, 2),
          held_out_loss_difference:
            peer.held_out_loss === null ? null : round(ours.held_out_loss - peer.held_out_loss, 4),
        },
      ]),
  )
}

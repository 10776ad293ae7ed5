/**
 * npm run test:soak -- [--only PART,…] [--trials N] [--minutes N] [--seed S] [--replay SEED] [--summary PATH]
 *
 * Trials of each part of parts.ts, 20 if nothing else is asked for; with `--minutes` as many as there is time for, which
 * the parts share. Ends with 1 when one failed. `--replay` does a single trial again, by the seed that was printed with
 * it. `--summary` writes PATH.json and PATH.md after every trial.
 */
import { writeFileSync } from 'node:fs'
import { arch, cpus, platform } from 'node:os'
import { parseArgs } from 'node:util'
import type { Part, Standing } from './part.ts'
import { ON_REQUEST, PARTS } from './parts.ts'

const TRIALS = 20

export async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string' },
      trials: { type: 'string' },
      minutes: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      replay: { type: 'string' },
      summary: { type: 'string' },
    },
  })
  const seed = wholeNumber('seed', values.seed)
  const replay = values.replay === undefined ? null : wholeNumber('replay', values.replay)
  const minutes = values.minutes === undefined ? null : wholeNumber('minutes', values.minutes)
  const trials = wholeNumber('trials', values.trials ?? (replay !== null ? 1 : minutes === null ? TRIALS : 1e9))
  const parts = partsOf(values.only ?? (replay === null ? null : 'jobs'))
  let interrupted = false
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => (interrupted = true))

  const began = performance.now()
  const minutesSince = () => (performance.now() - began) / 60_000
  const standings = new Map<Part, Standing>()
  const write = () => {
    const facts = { seed, minutes: minutesSince(), machine: machine() }
    const text = toMarkdown(facts, standings)
    if (values.summary !== undefined) {
      const data = Object.fromEntries([...standings].map(([{ name }, standing]) => [name, standing.data]))
      writeFileSync(`${values.summary}.json`, `${JSON.stringify({ ...facts, parts: data }, null, 1)}\n`)
      writeFileSync(`${values.summary}.md`, text)
    }
    return text
  }

  console.log(`seed ${seed}`)
  for (const [index, part] of parts.entries()) {
    const from = minutesSince()
    const until = minutes === null ? Number.POSITIVE_INFINITY : from + (minutes - from) / (parts.length - index)
    const isOver = () => interrupted || minutesSince() >= until
    console.log(`\n${part.name}: ${part.what}`)
    for await (const standing of part.run({ seed, replay, trials, isOver })) {
      standings.set(part, standing)
      write()
    }
  }
  console.log(`\n${write()}`)
  return [...standings.values()].some(({ failed }) => failed > 0) ? 1 : 0
}

function partsOf(names: string | null): readonly Part[] {
  if (names === null) return PARTS
  const all = [...PARTS, ...ON_REQUEST]
  return names.split(',').map((name) => {
    const part = all.find((part) => part.name === name)
    if (!part) throw new Error(`--only must name parts (${all.map(({ name }) => name).join(', ')}), not "${name}"`)
    return part
  })
}

function toMarkdown(
  { seed, minutes, machine }: { seed: number; minutes: number; machine: string },
  standings: ReadonlyMap<Part, Standing>,
): string {
  const parts = [...standings].map(([{ name, what }, { text }]) => `## ${name}\n${what}\n\n${text}\n`)
  return [`Seed ${seed}, ${minutes.toFixed(0)} minutes, ${machine}.\n`, ...parts].join('\n')
}

const machine = () => `${platform()} ${arch()}, ${cpus().length} cores, Node ${process.version}`

function wholeNumber(name: string, text: string | number): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} must be a whole number, not "${text}"`)
  return value
}

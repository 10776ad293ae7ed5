// What the data checks are to reach, and what a run says of it.

const PARSE_SHARE = 0.7
/** Two threads on two cores; "near two" of one thread. */
const TWO_THREADS = 1.7
const PYTHON = 3
const PEAK_MB = 300

/** Of the largest files of a run: smaller ones are mostly the start of Node. Readers that did not run are passed over. */
export function targetsOf(files) {
  const largest = Math.max(...files.map(({ bytes }) => Math.round(bytes / 1e6)))
  const targets = []
  const add = (what, wanted, got, ok) => targets.push({ what, wanted, got, ok })
  for (const { kind, form, bytes, readers } of files) {
    if (Math.round(bytes / 1e6) < largest) continue
    const file = `${kind}, ${form}`
    const { ours, 'ours-2-threads': two, 'json-parse': parse, 'python-json': json, pandas } = readers
    const atLeast = (what, wanted, a, b) => {
      if (!a || !b || a.failed || b.failed) return
      const got = Math.round(100 * ratioOf(what, a, b)) / 100
      add(`${file}: ${what}`, `${wanted} ×`, `${got} ×`, got >= wanted)
    }
    atLeast('one core, bare JSON.parse by CPU time', PARSE_SHARE, parse, ours)
    atLeast('two threads, one thread', TWO_THREADS, ours, two)
    atLeast("two threads, Python's json", PYTHON, json, two)
    atLeast('two threads, pandas', PYTHON, pandas, two)
    for (const [name, run] of [
      ['one thread', ours],
      ['two threads', two],
    ])
      if (run && !run.failed)
        add(`${file}: peak memory, ${name}`, `${PEAK_MB} MB`, `${run.peak_mb} MB`, run.peak_mb <= PEAK_MB)
  }
  return targets
}

export const missed = ({ ok }) => !ok

/** How many times faster the second is. */
const ratioOf = (what, slower, faster) =>
  what.includes('CPU time') ? slower.cpu_seconds / faster.cpu_seconds : slower.seconds / faster.seconds

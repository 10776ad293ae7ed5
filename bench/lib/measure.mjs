// Runs a process to its end, takes the time of what it says, and watches its whole process tree through /proc.
import { spawn } from 'node:child_process'
import { createWriteStream, readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const SAMPLE_MILLISECONDS = 200
const TICKS_PER_SECOND = 100 // USER_HZ of every Linux port that Node runs on
const LIMIT_MILLISECONDS = 30 * 60_000

/**
 * `parse` turns a line of the file descriptor `from` into an event, or null; what else the process prints goes to the
 * file `log`. `input` is written to its stdin, which stays open until an event says `last`.
 * Resolves to {events, seconds, peakMemoryMb, code, signal, samples}; an event's `at` and a sample's are seconds since
 * the start. Memory is the sum over the tree of what is resident, pages that processes share counted in each.
 */
export function measure(command, args, { env, from = 1, input, parse, log }) {
  return new Promise((resolve, reject) => {
    const start = performance.now()
    const now = () => (performance.now() - start) / 1000
    const child = spawn(command, args, {
      env,
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
      timeout: LIMIT_MILLISECONDS,
    })
    const output = createWriteStream(log)
    const events = []
    const samples = []
    let highWater = 0
    const sample = () => {
      const tree = processTree(child.pid)
      if (tree.length === 0) return
      highWater = Math.max(highWater, ...tree.map((process) => process.peakMb))
      samples.push({
        at: now(),
        memoryMb: sum(tree, (process) => process.memoryMb),
        cpuSeconds: sum(tree, (process) => process.cpuSeconds),
        machineSeconds: machineCpuSeconds(),
      })
    }
    const timer = setInterval(sample, SAMPLE_MILLISECONDS)
    const read = (stream) =>
      createInterface({ input: stream }).on('line', (line) => {
        output.write(`${line}\n`)
        const event = stream === child.stdio[from] ? parse(line) : null
        if (!event) return
        events.push({ ...event, at: now() })
        if (event.last) child.stdin.end()
      })
    for (const stream of child.stdio.slice(1)) read(stream)
    child.stdin.on('error', () => {}) // of a process that died first; its exit status tells
    if (input === undefined) child.stdin.end()
    else child.stdin.write(input)
    const kill = () => child.kill('SIGKILL')
    process.once('exit', kill)
    child.once('error', reject)
    child.once('close', (code, signal) => {
      clearInterval(timer)
      process.off('exit', kill)
      output.end()
      const peakMemoryMb = Math.max(highWater, ...samples.map((sample) => sample.memoryMb))
      resolve({ events, seconds: now(), peakMemoryMb, code, signal, samples })
    })
  })
}

/** CPU seconds of the tree, and the mean number of cores that everything else on the machine kept busy, between two times. */
export function cpuBetween(samples, from, to) {
  const inside = samples.filter((sample) => sample.at >= from && sample.at <= to)
  if (inside.length < 2) return { cpuSeconds: null, othersCores: null }
  const [first, last] = [inside[0], inside.at(-1)]
  const cpuSeconds = last.cpuSeconds - first.cpuSeconds
  const others = last.machineSeconds - first.machineSeconds - cpuSeconds
  return { cpuSeconds, othersCores: Math.max(0, others / (last.at - first.at)) }
}

function processTree(root) {
  const found = []
  const visit = (pid) => {
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8')
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      // After the name in brackets, which may hold anything: utime, stime, cutime and cstime are fields 14 to 17 of all.
      const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(11, 15) // biome-ignore format: one idea
      found.push({
        memoryMb: kilobytes(status, 'VmRSS'),
        peakMb: kilobytes(status, 'VmHWM'),
        cpuSeconds: sum(ticks, Number) / TICKS_PER_SECOND,
      })
      for (const task of readdirSync(`/proc/${pid}/task`))
        for (const child of readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean))
          visit(child)
    } catch (error) {
      if (error.code !== 'ENOENT' && error.code !== 'ESRCH') throw error // it has just ended
    }
  }
  visit(root)
  return found
}

const kilobytes = (status, name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) * 1.024e-3

/** Of all cores since the machine started. */
export function machineCpuSeconds() {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .split(/\s+/)
    .slice(1)
  return sum([user, nice, system, irq, softirq], Number) / TICKS_PER_SECOND
}

export const sum = (values, of) => values.reduce((total, value) => total + of(value), 0)

// CPU time and memory of processes over time, from /proc.
import { readdirSync, readFileSync } from 'node:fs'
import { machineCpuSeconds } from './measure.mjs'

const TICKS_PER_SECOND = 100
const EVERY = 200 // milliseconds

/** CPU seconds so far; 0 of a process that is gone. */
function cpu(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
  } catch {
    return 0
  }
}

export function residentMb(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

/** What the kernel holds for all TCP connections of this machine: what was sent and not taken yet. */
export function tcpBuffersMb() {
  const pages = /^TCP: .* mem (\d+)$/m.exec(readFileSync('/proc/net/sockstat', 'utf8'))?.[1]
  return (Number(pages) * 4096) / 2 ** 20
}

/** The direct children of a process whose command line holds `text`. */
export function childrenWith(pid, text) {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    try {
      return readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
    } catch {
      return []
    }
  })
  return children.filter((child) => readFileSync(`/proc/${child}/cmdline`, 'utf8').includes(text))
}

/** Watches {name: pid} until `stop`. `cpuBetween(name, from, to)`: CPU seconds between two values of performance.now();
 *  `machine` is everything that runs. */
export function watch(pids) {
  const samples = []
  const look = () => {
    const at = performance.now()
    const each = Object.entries(pids).map(([name, pid]) => [name, cpu(pid)])
    samples.push({ at, machine: machineCpuSeconds(), ...Object.fromEntries(each) })
  }
  look()
  const timer = setInterval(look, EVERY)
  const at = (name, time) => {
    const next = samples.findIndex((sample) => sample.at >= time)
    if (next <= 0) return samples.at(next)[name]
    const [a, b] = [samples[next - 1], samples[next]]
    return a[name] + ((b[name] - a[name]) * (time - a.at)) / (b.at - a.at)
  }
  return {
    cpuBetween: (name, from, to) => at(name, to) - at(name, from),
    stop: () => clearInterval(timer),
  }
}

/** The processes of this machine: from /proc where there is one, otherwise from ps (macOS). */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

export interface SystemProcess {
  pid: number
  /** Its parent's. */
  parent: number
  group: number
  /** With the pid it names one process for ever; in the system's own form. */
  started: string
  commandLine: string[]
}

/** Without zombies, which are gone but for their exit status. */
export async function listProcesses(): Promise<SystemProcess[]> {
  return process.platform === 'linux' ? fromProc() : fromPs()
}

async function fromProc(): Promise<SystemProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(pids.map(processOf))
  return found.filter((entry) => entry !== null)
}

/** proc(5): `pid (name) state ppid pgrp …`, the start time in ticks since boot as number 22. The name may hold anything. */
async function processOf(pid: string): Promise<SystemProcess | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ')
    const [state, parent, group, started] = [fields[0], fields[1], fields[2], fields[19]]
    if (state === 'Z' || state === 'X' || started === undefined) return null
    const commandLine = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').slice(0, -1)
    return { pid: Number(pid), parent: Number(parent), group: Number(group), started, commandLine }
  } catch {
    return null // has ended meanwhile
  }
}

const PS_LINE = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\w+\s+\w+\s+\d+\s+[\d:]+\s+\d+)\s+(.*)$/

/** Of the command line only its words, which is enough for arguments without spaces. */
export async function fromPs(): Promise<SystemProcess[]> {
  const { stdout } = await promisify(execFile)('ps', ['-axww', '-o', 'pid=,ppid=,pgid=,stat=,lstart=,args='], {
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    maxBuffer: 64 << 20,
  })
  return stdout.split('\n').flatMap((line) => {
    const [, pid, parent, group, state, started, args] = PS_LINE.exec(line) ?? []
    if (started === undefined || args === undefined || state?.startsWith('Z')) return []
    const commandLine = args.split(/\s+/).filter(Boolean)
    return [{ pid: Number(pid), parent: Number(parent), group: Number(group), started, commandLine }]
  })
}

import { readdir, readFile, readlink } from 'node:fs/promises'

const LISTEN = '0A'

/**
 * Which process listens on a TCP port, e.g. "node main.js (pid 4711)". Linux only, and only for processes that this user
 * may look at; null otherwise. /proc/net/tcp has the socket's inode, /proc/PID/fd who holds it (proc(5)).
 */
export async function portOwner(port: number): Promise<string | null> {
  try {
    const sockets = await listeningSockets(port)
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)))
      if (await holdsAny(pid, sockets)) {
        const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').filter(Boolean).join(' ')
        return `${command.slice(0, 80)} (pid ${pid})`
      }
  } catch {
    // Not Linux: the answer is a courtesy.
  }
  return null
}

async function listeningSockets(port: number): Promise<Set<string>> {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0')
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/net/${name}`, 'utf8').catch(() => '')))
  const rows = tables.flatMap((table) => table.split('\n')).map((row) => row.trim().split(/\s+/))
  const ours = rows.filter((row) => row[1]?.endsWith(`:${wanted}`) && row[3] === LISTEN)
  return new Set(ours.map((row) => `socket:[${row[9]}]`))
}

async function holdsAny(pid: string, sockets: Set<string>): Promise<boolean> {
  const handles = await readdir(`/proc/${pid}/fd`).catch(() => [])
  const targets = await Promise.all(handles.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')))
  return targets.some((target) => sockets.has(target))
}

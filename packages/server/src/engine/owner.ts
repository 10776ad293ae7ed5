/** Whose an engine process is: an argument that names the home folder and the server that started it. */
import { randomBytes } from 'node:crypto'
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const FILE = 'engine.owner'
const OPTION = '--owner='

/** `--owner=TOKEN.PID` for processes that this server starts. The token is random, kept in the home folder. */
export const ownerArgument = (home: string): string => `${OPTION}${homeToken(home)}.${process.pid}`

/** What `ownerArgument` says in a command line; null: it is no engine's of that home folder. */
export function ownerIn(commandLine: readonly string[], home: string): { server: number } | null {
  const at = commandLine.indexOf('-m')
  if (at < 0 || !commandLine[at + 1]?.startsWith('mlx_engine.')) return null
  const [token, pid] = commandLine[at + 2]?.startsWith(OPTION)
    ? (commandLine[at + 2]?.slice(OPTION.length).split('.') ?? [])
    : []
  return token === homeToken(home) && /^\d+$/.test(pid ?? '') ? { server: Number(pid) } : null
}

function homeToken(home: string): string {
  const path = join(home, FILE)
  for (;;) {
    try {
      const token = readFileSync(path, 'utf8')
      if (/^[0-9a-f]{32}$/.test(token)) return token
      rmSync(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    mkdirSync(home, { recursive: true, mode: 0o700 })
    const fresh = `${path}.${process.pid}`
    writeFileSync(fresh, randomBytes(16).toString('hex'), { mode: 0o600 })
    try {
      linkSync(fresh, path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      rmSync(fresh)
    }
  }
}

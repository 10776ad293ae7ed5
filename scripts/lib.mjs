// What the scripts share. Node built-ins alone: this runs before anything is installed.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = resolve(fileURLToPath(new URL('..', import.meta.url)))
export const STATE = join(ROOT, '.setup')
export const VENV = join(ROOT, '.venv')
export const PYTHON = join(VENV, 'bin', 'python')
export const ENGINE_SOURCE = join(ROOT, 'engine', 'src')
export const MODELS = join(ROOT, '.models')
export const BUNDLED_MODEL = 'SmolLM2-135M-Instruct'

/** An end that the user can do something about: its message is the one line that is shown. */
export class Stop extends Error {}

/** Prints `message` for a Stop, the stack for a bug, and exits with 1. */
export function fail(error) {
  console.error(error instanceof Stop ? `\n✗ ${error.message}` : error)
  process.exit(1)
}

/** Runs a command to its end; output goes to `log` (a file below .setup) or to the terminal. Resolves to {code, output}. */
export function run(command, args, { log, cwd = ROOT, env = process.env } = {}) {
  return new Promise((done) => {
    let file
    if (log) {
      mkdirSync(STATE, { recursive: true })
      file = openSync(join(STATE, log), 'w')
    }
    const child = spawn(command, args, {
      cwd,
      env,
      stdio: log ? ['ignore', file, file] : 'inherit',
    })
    const finish = (code, error) => {
      if (file !== undefined) closeSync(file)
      const output = log ? readFileSync(join(STATE, log), 'utf8') : ''
      done({
        code,
        output: error ? `${output}${error.message}` : output,
        missing: error?.code === 'ENOENT',
      })
    }
    child.once('error', (error) => finish(127, error))
    child.once('close', (code, signal) => finish(code ?? (signal ? 1 : 0)))
  })
}

/** stdout of a short command, or null when it fails or is missing. */
export function ask(command, args) {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: 20_000,
  })
  return result.status === 0 ? result.stdout.trim() : null
}

/** Hash over names and contents of files and folders (recursively), for "has this changed since". */
export function fingerprint(paths, extra = '') {
  const hash = createHash('sha256').update(extra)
  const visit = (path) => {
    const info = statSync(path, { throwIfNoEntry: false })
    if (!info) return
    if (info.isDirectory()) {
      for (const name of readdirSync(path).sort())
        if (!['node_modules', 'dist', '__pycache__'].includes(name)) visit(join(path, name))
    } else hash.update(path.slice(ROOT.length)).update('\0').update(readFileSync(path)).update('\0')
  }
  for (const path of paths) visit(join(ROOT, path))
  return hash.digest('hex')
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, realpathSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { EXIT, Stop } from '../exit.ts'

/** Starts the service of the checkout in this folder, or of the one that this command is of. */
export async function serve({ port, host }: { port?: number; host?: string }): Promise<void> {
  const script = startScript()
  const child = spawn(process.execPath, [script], {
    stdio: 'inherit',
    env: {
      ...process.env,
      ...(port !== undefined && { PORT: String(port) }),
      ...(host !== undefined && { HOST: host }),
    },
  })
  // A terminal's Ctrl-C reaches the server by itself; this process waits for it to save its jobs.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0 && code !== null) throw new Stop(`The server ended with ${code}`, EXIT.server)
}

function startScript(): string {
  const here = dirname(realpathSync(fileURLToPath(import.meta.url)))
  for (const root of [process.cwd(), resolve(here, '..', '..', '..', '..')]) {
    const script = join(root, 'scripts', 'start.mjs')
    if (existsSync(script) && existsSync(join(root, 'engine', 'src', 'mlx_engine'))) return script
  }
  throw new Stop(
    'serve needs the whole service: run it in a clone of its repository (the engine is Python and no npm package)',
  )
}

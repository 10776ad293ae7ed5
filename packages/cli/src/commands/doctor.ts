/** What is there, what is missing, and how to mend it. */
import { execFile } from 'node:child_process'
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ConnectionError } from '@mlx-training/sdk'
import { EXIT, Stop } from '../exit.ts'
import pc from '../screen/colours.ts'
import { bytes } from '../screen/format.ts'
import { asJson, marked, say } from '../screen/print.ts'
import type { Session } from '../session.ts'

export interface Finding {
  what: string
  ok: boolean
  found: string
  /** What to do, when it is not well, or could be better. */
  mend: string | null
}

/** A small model with its checkpoints needs about that much. */
const SPACE = 5e9
/** A matrix product with the reference BLAS reaches 4 GFLOP/s on a core, MKL and OpenBLAS 50 to 200. */
const SLOW_GFLOPS = 20
const PYTHON_AT_LEAST = [3, 11] as const
const HUB_TIMEOUT = 5000

export async function doctor(session: Session): Promise<void> {
  const findings = [
    node(),
    await python(),
    ...(await server(session)),
    await space(process.env.MLX_TRAINING_HOME ?? '.'),
    await hub(),
  ]
  if (session.json) asJson(findings)
  else
    for (const { what, ok, found, mend } of findings) {
      const mark = !ok ? pc.red('✗') : mend ? pc.yellow('!') : pc.green('✓')
      say(marked(`${mark} ${what.padEnd(8)}`, found))
      if (mend) say(pc.yellow(marked(' '.repeat(10), mend)))
    }
  const bad = findings.filter(({ ok }) => !ok).length
  if (bad > 0) throw new Stop(`${bad} of ${findings.length} are not well`, EXIT.bad)
}

const good = (what: string, found: string): Finding => ({ what, ok: true, found, mend: null })
const bad = (what: string, found: string, mend: string): Finding => ({ what, ok: false, found, mend })

const slow = (gflops: number, backend: string): Finding =>
  backend.startsWith('reference')
    ? bad('speed', `${gflops.toFixed(1)} GFLOP/s, ${backend}`, 'No fast BLAS was found: npm run setup installs one')
    : {
        ...good('speed', `${gflops.toFixed(1)} GFLOP/s`),
        mend: 'That is little. Other programs may have used the machine when the server started and measured it',
      }

/** The engine's own words: which ones, or why none. */
const kernels = (told: string): Finding => ({
  ...good('kernels', told),
  mend: !told.startsWith('stock')
    ? null
    : `Training and answers on this CPU are slower without them; ${
        told.includes('MLX_TRAINING_KERNELS')
          ? 'start the server without that setting to have them'
          : 'npm run setup builds them once the reason is gone'
      }`,
})

function node(): Finding {
  const { node } = process.versions
  return Number(node.split('.')[0]) >= 20
    ? good('node', node)
    : bad('node', node, 'Install Node 20 or newer: https://nodejs.org')
}

async function python(): Promise<Finding> {
  const wanted = PYTHON_AT_LEAST.join('.')
  for (const command of [
    process.env.MLX_TRAINING_PYTHON,
    join('.venv', 'bin', 'python'),
    process.env.PYTHON,
    'python3',
  ]) {
    if (!command) continue
    const version = await versionOf(command)
    if (version === null) continue
    const [major = 0, minor = 0] = version.split('.').map(Number)
    return major > PYTHON_AT_LEAST[0] || (major === PYTHON_AT_LEAST[0] && minor >= PYTHON_AT_LEAST[1])
      ? good('python', `${version} (${command})`)
      : bad(
          'python',
          `${version} (${command})`,
          `Python ${wanted} or newer is needed; name it with PYTHON=/path/to/python`,
        )
  }
  return bad('python', 'not found', `Install Python ${wanted} or newer, or name it with PYTHON=/path/to/python`)
}

async function versionOf(command: string): Promise<string | null> {
  try {
    const { stdout } = await promisify(execFile)(command, ['--version'], { timeout: 10_000 })
    return /(\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1] ?? null
  } catch {
    return null
  }
}

async function server({ client, url }: Session): Promise<Finding[]> {
  try {
    const { version, engine, checks } = await client.health({ timeout: 10_000, maxRetries: 0 })
    return [
      good('server', `${version} at ${url}`),
      checks.database === 'ok'
        ? good('database', 'works')
        : bad('database', 'does not work', 'The log of the server says why: it ends with the reason'),
      engine.state === 'ready'
        ? good('engine', `MLX ${engine.mlx_version} on ${engine.device}, ${engine.backend}`)
        : bad(
            'engine',
            engine.reason ?? engine.state,
            'Run npm run setup in the folder of the service, then restart it',
          ),
      ...(engine.gflops === null
        ? []
        : [
            engine.gflops >= SLOW_GFLOPS
              ? good('speed', `${Math.round(engine.gflops)} GFLOP/s`)
              : slow(engine.gflops, engine.backend ?? ''),
          ]),
      ...(engine.kernels === null ? [] : [kernels(engine.kernels)]),
      checks.disk === 'ok'
        ? good('data', 'writable')
        : bad('data', `disk ${checks.disk}`, 'Make room on the disk of MLX_TRAINING_HOME'),
    ]
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error
    return [bad('server', `nothing answers at ${url}`, 'Start it with: mlx-training serve, or name another with --url')]
  }
}

async function space(folder: string): Promise<Finding> {
  try {
    const { bavail, bsize } = await statfs(folder)
    const free = bavail * bsize
    return free >= SPACE
      ? good('disk', `${bytes(free)} free`)
      : bad(
          'disk',
          `${bytes(free)} free`,
          `Checkpoints and models need room: ${bytes(SPACE)} are enough for small models`,
        )
  } catch (error) {
    return bad('disk', (error as Error).message, 'MLX_TRAINING_HOME names the folder of the data')
  }
}

async function hub(): Promise<Finding> {
  const address = process.env.HF_ENDPOINT ?? 'https://huggingface.co'
  if (process.env.HF_HUB_OFFLINE === '1') return good('hub', 'not asked (HF_HUB_OFFLINE=1)')
  try {
    await fetch(address, { method: 'HEAD', signal: AbortSignal.timeout(HUB_TIMEOUT) })
    return good('hub', address)
  } catch (error) {
    const { cause, message } = error as Error & { cause?: Error }
    const found = `${address} does not answer (${cause?.message || message})`
    const mend =
      'Bundled and local models work all the same; HF_ENDPOINT names a mirror, HF_HUB_OFFLINE=1 ends the attempts'
    return { ...good('hub', found), mend }
  }
}

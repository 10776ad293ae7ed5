// npm run lock: makes the Python side's lock files from their .in files: for every platform, with hashes, without addresses.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fail, ROOT, run, Stop, VENV } from './lib.mjs'
import { setup } from './setup.mjs'

await setup().catch(fail)
const inVenv = join(VENV, 'bin', 'uv')
const uv = existsSync(inVenv) ? inVenv : 'uv'
const options =
  '--universal --generate-hashes --python-version 3.11 --no-header --no-annotate --no-emit-index-url --quiet --upgrade'.split(
    ' ',
  )
for (const name of [
  'locks/default',
  'locks/cuda12',
  'locks/cuda13',
  'locks/model',
  'kernels/nanobind',
  'kernels/tools',
]) {
  const only = name === 'locks/model' ? ['--no-deps'] : []
  const { code } = await run(uv, ['pip', 'compile', ...options, ...only, `${name}.in`, '-o', `${name}.lock`], {
    cwd: join(ROOT, 'engine'),
  })
  if (code !== 0) fail(new Stop(`uv could not resolve engine/${name}.in.`))
  console.log(`engine/${name}.lock`)
}

// npm run lock: makes engine/locks/*.lock from the .in files: for every platform, with hashes, without addresses.
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
for (const name of ['default', 'cuda12', 'cuda13', 'model']) {
  const only = name === 'model' ? ['--no-deps'] : []
  const { code } = await run(uv, ['pip', 'compile', ...options, ...only, `${name}.in`, '-o', `${name}.lock`], {
    cwd: join(ROOT, 'engine', 'locks'),
  })
  if (code !== 0) fail(new Stop(`uv could not resolve engine/locks/${name}.in.`))
  console.log(`engine/locks/${name}.lock`)
}

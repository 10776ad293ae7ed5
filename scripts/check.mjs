// npm run check: format, lint and types of both languages.
import { join } from 'node:path'
import { fail, ROOT, run, VENV } from './lib.mjs'
import { setup } from './setup.mjs'

await setup().catch(fail)
const node = (script, ...args) => [process.execPath, [join(ROOT, 'node_modules', script), ...args]]
const ruff = (...args) => [join(VENV, 'bin', 'ruff'), args]
const checks = [
  ['TypeScript: format and lint', ...node('@biomejs/biome/bin/biome', 'check', '--error-on-warnings', '.')],
  ['TypeScript: types', ...node('typescript/bin/tsc', '-b')],
  ['TypeScript: types of tests', ...node('typescript/bin/tsc', '-p', 'tsconfig.test.json')],
  ['Python: format', ...ruff('format', '--check', 'engine', 'bench')],
  ['Python: lint', ...ruff('check', 'engine', 'bench')],
]
let failed = 0
for (const [title, command, args] of checks) {
  console.log(`• ${title}`)
  const { code } = await run(command, args)
  if (code !== 0) failed += 1
}
console.log(`total: ${checks.length - failed} passed, ${failed} failed`)
process.exitCode = failed ? 1 : 0

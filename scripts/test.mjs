// npm test: sets everything up, runs vitest, then pytest, and adds up what they counted.
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fail, PYTHON, ROOT, run, STATE } from './lib.mjs'
import { setup } from './setup.mjs'

await setup().catch(fail)
mkdirSync(STATE, { recursive: true })
const vitestReport = join(STATE, 'vitest.json')
const pytestReport = join(STATE, 'pytest.xml')
for (const file of [vitestReport, pytestReport]) rmSync(file, { force: true })

const vitest = await run(process.execPath, [
  join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${vitestReport}`,
])
const pytest = await run(PYTHON, ['-m', 'pytest', `--junitxml=${pytestReport}`], { cwd: join(ROOT, 'engine') })

const counts = [countVitest(), countPytest()]
const passed = counts.reduce((sum, count) => sum + count.passed, 0)
let failed = counts.reduce((sum, count) => sum + count.failed, 0)
// A runner that died without counting a failure is one.
if (failed === 0) failed = [vitest, pytest].filter(({ code }) => code !== 0).length
console.log(`total: ${passed} passed, ${failed} failed`)
process.exitCode = failed ? 1 : 0

function countVitest() {
  if (!existsSync(vitestReport)) return { passed: 0, failed: 1 }
  const report = JSON.parse(readFileSync(vitestReport, 'utf8'))
  const failedFiles = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  )
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + failedFiles.length,
  }
}

function countPytest() {
  if (!existsSync(pytestReport)) return { passed: 0, failed: 1 }
  const suite = /<testsuite [^>]*>/.exec(readFileSync(pytestReport, 'utf8'))?.[0] ?? ''
  const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(suite)?.[1] ?? 0)
  const failures = number('failures') + number('errors')
  return {
    passed: number('tests') - failures - number('skipped'),
    failed: failures,
  }
}

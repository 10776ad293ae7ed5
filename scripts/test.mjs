// npm test: sets everything up, runs vitest, then pytest, and adds up what they counted.
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, relative } from 'node:path'
import { fail, PYTHON, ROOT, run, STATE } from './lib.mjs'
import { setup } from './setup.mjs'

await setup().catch(fail)
mkdirSync(STATE, { recursive: true })
const vitestReport = join(STATE, 'vitest.json')
const pytestReport = join(STATE, 'pytest.xml')
for (const file of [vitestReport, pytestReport]) rmSync(file, { force: true })

// Two tests run at a time: matrix products on two threads each would wait for one another.
const env = { MKL_NUM_THREADS: '1', ...process.env }
const vitest = await run(
  process.execPath,
  [
    join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${vitestReport}`,
  ],
  { env },
)
const workers = ['-n', String(Math.max(2, availableParallelism() - 1)), '--dist', 'loadfile']
const pytest = await run(PYTHON, ['-m', 'pytest', ...workers, `--junitxml=${pytestReport}`], {
  cwd: join(ROOT, 'engine'),
  env,
})

const counts = [countVitest(), countPytest()]
const passed = counts.reduce((sum, count) => sum + count.passed, 0)
const names = counts.flatMap((count) => count.failed)
// A runner that died without counting a failure is one.
if (names.length === 0) {
  if (vitest.code !== 0) names.push(`vitest ended with ${vitest.code}`)
  if (pytest.code !== 0) names.push(`pytest ended with ${pytest.code}`)
}
for (const name of names) console.log(`failed: ${name}`)
const failed = names.length
console.log(`total: ${passed} passed, ${failed} failed`)
process.exitCode = failed ? 1 : 0

/** Of each runner, how many passed, and the names of those that failed: the end of a long output tells what to look for. */
function countVitest() {
  if (!existsSync(vitestReport)) return { passed: 0, failed: ['vitest made no report'] }
  const report = JSON.parse(readFileSync(vitestReport, 'utf8'))
  const failed = report.testResults.flatMap(({ name, status, assertionResults }) => {
    const file = relative(ROOT, name)
    if (status === 'failed' && assertionResults.length === 0) return [file]
    return assertionResults.filter((test) => test.status === 'failed').map((test) => `${file}: ${test.fullName}`)
  })
  return { passed: report.numPassedTests, failed }
}

function countPytest() {
  if (!existsSync(pytestReport)) return { passed: 0, failed: ['pytest made no report'] }
  const cases = readFileSync(pytestReport, 'utf8').split('<testcase ').slice(1)
  const failed = cases.filter((text) => /<(failure|error)\b/.test(text)).map(nameOf)
  const skipped = cases.filter((text) => text.includes('<skipped')).length
  return { passed: cases.length - failed.length - skipped, failed }
}

/** Of a <testcase classname="…" name="…" …>. */
function nameOf(text) {
  return /classname="([^"]*)" name="([^"]*)"/.exec(text)?.slice(1).join('::') ?? text.slice(0, 80)
}

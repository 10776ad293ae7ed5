import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { KEY, ROOT, Server, workFolder } from './support.ts'

const folder = workFolder()
let server: Server

beforeAll(async () => {
  cpSync(join(ROOT, 'examples'), join(folder.path, 'examples'), { recursive: true })
  mkdirSync(join(folder.path, 'data'))
  writeFileSync(join(folder.path, 'data', 'admin.key'), `${KEY}\n`)
  server = await Server.start(folder.path)
}, 60_000)
afterAll(async () => {
  await server?.stop()
  folder.remove()
})

test('the curl tour of the README works when pasted', async () => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const tour = /<!-- tour -->\n```bash\n([\s\S]*?)```/.exec(readme)?.[1] ?? ''
  const script = tour
    .replace('http://127.0.0.1:8200', server.url)
    .replaceAll('"max_steps": 60', '"max_steps": 2')
    .replaceAll('curl -s', 'echo; curl -s')
  const output = execFileSync('bash', ['-euo', 'pipefail', '-c', script], { encoding: 'utf8', cwd: folder.path })
  const answers = output.split('\n').filter((line) => line.startsWith('{'))
  expect(answers.length).toBe(tour.match(/curl -s/g)?.length && (tour.match(/curl -s/g)?.length ?? 0) - 1)
  expect(output).not.toContain('error_type')
  expect(output).toContain('event: end')
}, 180_000)

test('so do its lines about data sets', () => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const lines = /<!-- data -->\n```bash\n([\s\S]*?)```/.exec(readme)?.[1] ?? ''
  const script = lines.replace('http://127.0.0.1:8200', server.url).replaceAll('\ncurl -s', '\necho; curl -s')
  const output = execFileSync('bash', ['-euo', 'pipefail', '-c', script], { encoding: 'utf8', cwd: folder.path })
  const answers = output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
  expect(answers).toMatchObject([
    { valid: true, supervision: { rows: 64, refusal: null } },
    { rows: [{ sample: 0, problem: null }, { sample: 5 }] },
    { dataset: { valid: true }, repairs: { length: 5 } },
    { train: { valid: true }, validation: { valid: true } },
  ])
}, 120_000)

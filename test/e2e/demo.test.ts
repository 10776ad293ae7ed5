import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { ROOT, workFolder } from './support.ts'

const folder = workFolder()
afterAll(() => folder.remove())

test('npm run demo -- --exit does the main job and ends with 0', async () => {
  // What the npm script runs, from a folder of its own so that a user's ./data and ./outputs stay as they are.
  const child = spawn(process.execPath, [join(ROOT, 'scripts', 'demo.mjs'), '--exit', '--port', '0', '--steps', '2'], {
    cwd: folder.path,
    env: { ...process.env, MLX_TRAINING_DATASET_ROOTS: join(ROOT, 'examples') },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data))
  const code = await new Promise((ended) => child.once('close', ended))
  expect(code, output).toBe(0)
  expect(output).toMatch(/Engine .*\n/)
  expect(output).toMatch(/step 2\/2\s+loss [\d.]+\s+\d+ tokens\/s/)
  expect(output.match(/before/g)?.length).toBe(3)
  expect(output.match(/after /g)?.length).toBeGreaterThanOrEqual(3)
}, 240_000)

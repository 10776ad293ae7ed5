// npm run test:soak: see test/soak/main.ts, which is TypeScript and loaded as the tests are.
import { join } from 'node:path'
import { runnerImport } from 'vite'
import { fail, ROOT, run } from './lib.mjs'

const { code } = await run(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-b'])
if (code !== 0) process.exit(code)
const { module } = await runnerImport(join(ROOT, 'test', 'soak', 'main.ts'), {
  configFile: false,
  root: ROOT,
  logLevel: 'error',
  resolve: { alias: { '@mlx-training/contract': join(ROOT, 'packages', 'contract', 'src', 'index.ts') } },
})
process.exit(await module.main(process.argv.slice(2)).catch(fail))

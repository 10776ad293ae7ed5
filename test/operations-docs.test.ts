import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { SSE_TIMES } from '../packages/server/src/http/sse.ts'
import { createMetrics } from '../packages/server/src/metrics/metrics.ts'
import { openSqliteStore } from '../packages/server/src/store/sqlite.ts'

const text = readFileSync(new URL('../docs/operations.md', import.meta.url), 'utf8')

test('docs/operations.md lists every metric with its type', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'operations-'))
  const store = await openSqliteStore(join(folder, 'db'))
  const metrics = createMetrics()
  metrics.watch(store)
  const told = [...(await metrics.text()).matchAll(/^# TYPE (\S+) (\w+)$/gm)].map(([, name, type]) => `${name} ${type}`)
  await store.close()
  rmSync(folder, { recursive: true })
  const rows = [...text.matchAll(/^\| `(mlx_training_\w+)` \| (\w+) \| .+ \|$/gm)]
  expect(rows.map(([, name, type]) => `${name} ${type}`).sort()).toEqual(told.sort())
})

test('docs/operations.md tells when clients that do not read are cut', () => {
  expect(text.match(/took? nothing for (\d+) s|takes nothing for (\d+) s/g)).toEqual([
    `took nothing for ${SSE_TIMES.stalledMs / 1000} s`,
    `takes nothing for ${SSE_TIMES.stalledMs / 1000} s`,
  ])
})

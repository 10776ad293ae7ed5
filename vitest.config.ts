import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { LongFirst } from './test/long-first.ts'

const source = (name: string) => fileURLToPath(new URL(`packages/${name}/src/index.ts`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: { '@mlx-training/contract': source('contract'), '@mlx-training/sdk': source('sdk') },
  },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'test/**/*.test.ts'],
    // End-to-end tests wait for processes most of the time, so that two of them fit on two cores.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    sequence: { sequencer: LongFirst },
    testTimeout: 20_000,
    // A service takes a second of CPU to start, which on a busy machine is many of the clock.
    hookTimeout: 60_000,
  },
})

/** Tiny random models and data for tests with the real engine. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadConfig, PROJECT_ROOT } from '../../src/config.ts'
import type { JobPlan } from '../../src/jobs/port.ts'

export const { python, engineSource } = loadConfig({})

/** `config`: what is to be different in the model's config.json. */
export function makeTinyModel(folder: string, config: Record<string, number> = {}): void {
  const program = `
import json, sys, mlx_engine
from pathlib import Path
from tiny import make_tiny_model
make_tiny_model(Path(sys.argv[1]), **json.loads(sys.argv[2]))`
  execFileSync(python, ['-c', program, folder, JSON.stringify(config)], {
    env: { ...process.env, PYTHONPATH: [engineSource, join(PROJECT_ROOT, 'engine', 'tests')].join(':') },
  })
}

/** Rows of one question and one answer. */
export function writeRows(path: string, rows: [string, string][]): JobPlan['dataset'] {
  const lines = rows.map(([user, assistant], sample) =>
    JSON.stringify({
      sample,
      messages: [
        { role: 'user', content: user },
        { role: 'assistant', content: assistant },
      ],
    }),
  )
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''))
  const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex')
  return { path, sha256, format: 'sharegpt', samples: rows.length, warnings: [] }
}

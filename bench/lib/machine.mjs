// What a result must say to be worth keeping: the machine, the versions, the commit.
import { readFileSync } from 'node:fs'
import { arch, cpus, loadavg, release, totalmem } from 'node:os'
import { ask, PYTHON, ROOT } from '../../scripts/lib.mjs'

const MODULES = [
  'mlx',
  'mlx-cpu',
  'mlx-lm',
  'mkl',
  'torch',
  'peft',
  'accelerate',
  'transformers',
  'tokenizers',
  'numpy',
]

export function machine() {
  const info = readFileSync('/proc/cpuinfo', 'utf8')
  const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(info)?.[1].split(' '))
  return {
    cpu: cpus()[0].model,
    cpu_id: ['cpu family', 'model']
      .map((name) => `${name} ${new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(info)?.[1]}`)
      .join(', '),
    cores: cpus().length,
    vector_units: ['avx2', 'avx512f', 'avx512_bf16', 'amx_bf16', 'amx_tile'].filter((flag) => flags.has(flag)),
    memory_gb: round(totalmem() / 1e9, 1),
    system: `${process.platform} ${release()} ${arch()}`,
  }
}

export const loadAverage = () => loadavg().map((value) => round(value, 2))

/** Of the project's Python and of the peers', which share no package. */
export function versions(peersPython) {
  return {
    node: process.versions.node,
    ours_and_mlx_lm: modules(PYTHON),
    pytorch_peers: peersPython ? modules(peersPython) : null,
  }
}

function modules(python) {
  const code = `
import json, platform
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in ${JSON.stringify(MODULES)}:
    try: found[name] = version(name)
    except PackageNotFoundError: pass
print(json.dumps(found))`
  return JSON.parse(ask(python, ['-c', code]) ?? 'null')
}

/** The commit, and whether the engine or the benchmark differs from it. */
export function commit() {
  const git = (...args) => ask('git', ['-C', ROOT, ...args])
  return {
    commit: git('rev-parse', 'HEAD'),
    changed: git('status', '--porcelain', '--', 'engine', 'bench/lib', 'bench/peers') !== '',
  }
}

export const round = (value, digits) => (value === null || value === undefined ? null : Number(value.toFixed(digits)))

/** A stand-in at the process boundary: a package `mlx_engine` of Python scripts that misbehave on purpose. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TrainCommand } from '@mlx-training/contract'
import { loadConfig } from '../../src/config.ts'
import { trainCommand } from '../../src/jobs/command.ts'
import { queuedJob } from '../jobs/jobs.ts'

const PRELUDE = `
import json, os, signal, subprocess, sys, threading, time

def send(type, **fields):
    os.write(3, (json.dumps({"type": type, **fields}) + "\\n").encode())

def hello(protocol=1):
    send("hello", protocol=protocol, pid=os.getpid(), device="cpu", backend="fake", dtype="float32", gflops=12.5, kernels=None,
         mlx_version="0", mlx_lm_version="0")

def command():
    line = sys.stdin.readline()
    if not line:
        os._exit(0)
    return json.loads(line)

def error(kind, message, id=None):
    send("error", id=id, kind=kind, message=message, traceback=None)

def warning(message):
    send("warning", code="w", message=message)

def prepared(resumed=0):
    send("prepared", total_steps=4, steps_per_epoch=4, resumed_from_step=resumed, samples=8, samples_dropped=0,
         samples_truncated=0, tokens=80, trained_tokens=40, validation_samples=0, trainable_params=16,
         total_params=256, target_modules=["q_proj"], packing=False, lanes=1, ranks=1)

def step(number):
    send("step", step=number, epoch=1, loss=2.0 / number, smoothed_loss=2.0 / number, learning_rate=1e-4, grad_norm=1.0, tokens=20, trained_tokens=10,
         tokens_per_second=100.0, trained_tokens_per_second=50.0, padding_share=0.1, processed_samples=2 * number, memory_mb=64.0,
         seconds_remaining=1.0)

def checkpoint(number, output):
    path = os.path.join(output, "checkpoints", f"step-{number:08d}")
    os.makedirs(path, exist_ok=True)
    send("checkpoint", step=number, path=path, loss=2.0 / number, validation_loss=None, best=False)

def finished(outcome="completed", step=4):
    send("finished", outcome=outcome, step=step, loss=0.5, best_step=None, reason=None)
    sys.exit(0)
`

export interface FakeEngine {
  /** Temporary folder, also the home. */
  folder: string
  config: { python: string; engineSource: string; home: string }
  remove(): void
}

/** `modules`: what follows the helpers above in the engine's modules; a probe that works is there by default. */
export function fakeEngine(
  modules: Partial<Record<'probe' | 'train' | 'estimate' | 'serve' | 'inspect' | 'gguf', string>>,
): FakeEngine {
  const folder = mkdtempSync(join(tmpdir(), 'engine-'))
  const engineSource = join(folder, 'src')
  mkdirSync(join(engineSource, 'mlx_engine'), { recursive: true })
  writeFileSync(join(engineSource, 'mlx_engine', '__init__.py'), '')
  for (const [name, body] of Object.entries({ probe: 'hello()', ...modules }))
    writeFileSync(join(engineSource, 'mlx_engine', `${name}.py`), PRELUDE + body)
  return {
    folder,
    config: { python: loadConfig({}).python, engineSource, home: folder },
    remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }),
  }
}

export const anyTrainCommand: TrainCommand = trainCommand(
  { ...queuedJob(), attempt: 1 },
  '/models/tiny',
  '/cache/tokens',
)

/** A zombie, which some container's first process never reaps, counts as dead. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return process.platform !== 'linux' || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** Waits until it holds; the test's own time limit is the only one. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20))
}

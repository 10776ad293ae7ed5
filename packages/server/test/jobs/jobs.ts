/** Jobs for tests: a complete request and plan, as start makes them. */
import { StartRequest } from '@mlx-training/contract'
import { Value } from 'typebox/value'
import type { Job, NewJob } from '../../src/jobs/port.ts'
import { NO_PROGRESS } from '../../src/store/schema.ts'

export function newJob(name: string, outputDir = `/outputs/${name}`, overwrite = false): NewJob {
  return {
    name,
    request: Value.Default(StartRequest, {
      experiment_name: name,
      model_name: 'tiny',
      epochs: 1,
      lora: { use_lora: true, lora_r: 4, lora_alpha: 8, lora_dropout: 0, lora_target_modules: ['q_proj', 'v_proj'] },
      dataset: { dataset_path: '/data.json', batch_size: 2, max_seq_length: 64 },
      warmup_ratio: 0,
      seed: 1,
      overwrite,
    }) as StartRequest,
    plan: {
      method: 'lora',
      model: { kind: 'folder', name: 'tiny', path: '/models/tiny' },
      dataset: { path: '/snapshots/ab.jsonl', sha256: 'ab', format: 'alpaca', samples: 8, warnings: [] },
      validation: null,
      outputDir,
    },
  }
}

export function queuedJob(name = 'a'): Job {
  return {
    ...newJob(name),
    id: 'job_1',
    state: 'queued',
    intent: 'run',
    attempt: 0,
    fruitlessAttempts: 0,
    priority: 0,
    progress: NO_PROGRESS,
    reason: null,
    createdAt: '2026-01-01T00:00:00.000Z',
    startedAt: null,
    completedAt: null,
    lastEventId: 1,
  }
}

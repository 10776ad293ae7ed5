import { type Static, Type } from 'typebox'
import { enumOf, Nullable, Timestamp } from './common.ts'

export const EngineHealth = Type.Object({
  state: enumOf(['starting', 'ready', 'unavailable'] as const),
  reason: Nullable(Type.String({ description: 'Why it is unavailable, and what to do' })),
  device: Nullable(
    Type.String({
      description: 'e.g. "cpu", "metal: Apple M3 Max", "cuda: NVIDIA H100"',
    }),
  ),
  backend: Nullable(
    Type.String({
      description: 'What multiplies matrices, e.g. "MKL 2026.2", and why',
    }),
  ),
  dtype: Nullable(Type.String({ description: 'Of weights and activations' })),
  gflops: Nullable(
    Type.Number({
      description: 'Measured at start: 1024³ matrix product in dtype',
    }),
  ),
  kernels: Nullable(
    Type.String({ description: 'Which fused kernels a CPU computes with, or why none; null on a GPU' }),
  ),
  mlx_version: Nullable(Type.String()),
  mlx_lm_version: Nullable(Type.String()),
})
export type EngineHealth = Static<typeof EngineHealth>

export const Checks = Type.Object({
  database: enumOf(['ok', 'unavailable'] as const),
  engine: enumOf(['ok', 'starting', 'unavailable'] as const),
  disk: enumOf(['ok', 'full', 'unavailable'] as const, { description: "Of the server's data folder" }),
})
export type Checks = Static<typeof Checks>

export const HealthResponse = Type.Object(
  {
    status: enumOf(['healthy', 'degraded'] as const, {
      description: 'degraded: no working engine',
    }),
    version: Type.String(),
    service: Type.Literal('mlx-distributed-training'),
    features: Type.Object({
      lora: Type.Boolean(),
      qlora: Type.Boolean(),
      dataset_formats: Type.Array(Type.String()),
      other_dataset_formats: Type.Array(Type.String(), { description: 'Understood as well' }),
      providers: Type.Array(Type.String()),
      distributed: Type.Boolean({
        description: 'Whether this engine can train on several ranks',
      }),
    }),
    active_jobs: Type.Integer({
      description: 'Preparing, running or stopping',
    }),
    timestamp: Timestamp,
    started_at: Timestamp,
    queued_jobs: Type.Integer(),
    max_concurrent_jobs: Type.Integer({ description: 'Training jobs at a time; the others are queued' }),
    memory: Type.Object(
      { total_mb: Type.Number(), available_mb: Type.Number() },
      { description: 'Main memory of the machine, or of the container that the server is in' },
    ),
    engine: EngineHealth,
    ready: Type.Boolean({ description: 'Whether all checks are ok, as GET /ready tells by its status' }),
    checks: Checks,
  },
  { $id: 'HealthResponse' },
)
export type HealthResponse = Static<typeof HealthResponse>

export const ReadyResponse = Type.Object({ ready: Type.Literal(true), checks: Checks }, { $id: 'ReadyResponse' })
export type ReadyResponse = Static<typeof ReadyResponse>

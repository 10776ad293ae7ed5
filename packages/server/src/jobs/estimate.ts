import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EngineHealth } from '@mlx-training/contract'
import { readWeights } from '../models/weights.ts'

/** How much is to be trained on. */
export interface Workload {
  samples: number
  /** Of the data set's file. */
  bytes: number
  maxSeqLength: number
  epochs: number
  batchSize: number
  gradientAccumulationSteps: number
  maxSteps: number | null
}

/** English text in a byte-pair vocabulary; a row's field names and quotes stand for the chat template's tokens. */
const BYTES_PER_TOKEN = 4

/**
 * Part of the measured matrix-product rate that a training step keeps. CPU: SmolLM2-135M, LoRA r=8 on q,k,v,o, rows of at
 * most 256 tokens took 77 tokens/s where 177 GFLOP/s were measured: 4 · 135e6 · 77 / 177e9 = 0.23 (elementwise operations
 * run on one thread). GPU: 0.35–0.5 is what published model-FLOP utilisations of fine-tuning come to.
 */
const EFFICIENCY = { cpu: 0.23, gpu: 0.4 }

/** Start of a process, loading and tokenising. */
export const START_SECONDS = 10

/** Times that the data set is gone through, or the part of it that max_steps leaves. */
export function epochsOf(work: Workload): number {
  const rows = (work.maxSteps ?? Number.POSITIVE_INFINITY) * work.batchSize * work.gradientAccumulationSteps
  return Math.min(work.epochs, rows / Math.max(1, work.samples))
}

/** Of one epoch, by the size of the data set. */
export function approximateTokens({ samples, bytes, maxSeqLength }: Workload): number {
  return Math.min(samples * maxSeqLength, bytes / BYTES_PER_TOKEN)
}

/**
 * Seconds that training will take, by arithmetic alone; the status tells measured ones from the second step on.
 * FLOP a token and parameter: 2 forward and 2 back through the activations; full fine-tuning adds 2 for the weights'
 * gradients, which LoRA's frozen base does not need. null when the engine has measured nothing.
 */
export function estimateSeconds(
  work: Workload & { parameters: number; full: boolean },
  engine: Pick<EngineHealth, 'device' | 'gflops'>,
): number | null {
  if (engine.gflops === null || engine.gflops <= 0) return null
  const flop = (work.full ? 6 : 4) * work.parameters * epochsOf(work) * approximateTokens(work)
  const efficiency = engine.device === 'cpu' ? EFFICIENCY.cpu : EFFICIENCY.gpu
  return Math.round(START_SECONDS + flop / (engine.gflops * 1e9 * efficiency))
}

/** 20 → "about 20 seconds", 170 → "about 3 minutes", 7000 → "about 2 hours". */
export function humanDuration(seconds: number): string {
  const told = (value: number, unit: string) => `about ${value} ${unit}${value === 1 ? '' : 's'}`
  if (seconds < 55) return told(Math.max(5, Math.round(seconds / 5) * 5), 'second')
  if (seconds < 55 * 60) return told(Math.round(seconds / 60), 'minute')
  if (seconds < 10 * 3600) return told(Math.round(seconds / 1800) / 2, 'hour')
  if (seconds < 36 * 3600) return told(Math.round(seconds / 3600), 'hour')
  return told(Math.round(seconds / 86400), 'day')
}

/**
 * Parameters of a model folder, from the headers of its files. MLX packs quantised values into U32 words and keeps a scale
 * and a bias beside every `group_size` of them, which are no parameters but tell how many there are, whatever the bits.
 */
export async function countParameters(folder: string): Promise<number> {
  const groupSize = await quantizationGroup(folder)
  let count = 0
  for (const [tensor, { dtype, shape }] of Object.entries((await readWeights(folder)).tensors)) {
    if (tensor.endsWith('.biases') || dtype === 'U32') continue
    const values = shape.reduce((product, size) => product * size, 1)
    count += tensor.endsWith('.scales') ? values * groupSize : values
  }
  return count
}

async function quantizationGroup(folder: string): Promise<number> {
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
  return Number(config.quantization?.group_size ?? 64)
}

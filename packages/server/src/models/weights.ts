import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isWeights } from './folder.ts'
import { type Header, readHeader } from './safetensors.ts'

/** What a model's folder holds, over all of its files. */
export interface Weights {
  tensors: Header['tensors']
  /** MLX wrote them: tensors are named as the modules that the engine loads them into. Files from elsewhere may name some
   *  otherwise (mlx-lm's `sanitize`: fused projections, experts one by one). */
  native: boolean
}

export async function readWeights(folder: string): Promise<Weights> {
  const weights: Weights = { tensors: {}, native: true }
  for (const name of (await readdir(folder)).filter(isWeights)) {
    const { tensors, metadata } = await readHeader(join(folder, name))
    Object.assign(weights.tensors, tensors)
    weights.native &&= metadata.format === 'mlx'
  }
  return weights
}

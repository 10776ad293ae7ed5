import { createGunzip } from 'node:zlib'
import { FileFault } from '../split/fault.ts'
import { through } from './through.ts'

export interface ExpansionLimits {
  /** Of what a compressed file unpacks to, or Parquet decodes to. */
  maxExpandedBytes: number
  /** Unpacked to packed. Text packs to a third or a tenth; DEFLATE can't do better than 1032. */
  maxExpansionRatio: number
}

/** Below it the ratio says nothing: a few rows that are much alike are no bomb. */
const RATIO_FROM_BYTES = 64 * 1024 * 1024

/** Throws FileFault as soon as what came out of `packed` bytes is more than the limits allow. */
export function checkExpansion(expanded: number, packed: number, limits: ExpansionLimits): void {
  if (expanded > limits.maxExpandedBytes)
    throw new FileFault(
      'expands_too_far',
      `The file unpacks to more than ${limits.maxExpandedBytes} bytes: split it, or raise MLX_TRAINING_MAX_EXPANDED_BYTES`,
    )
  if (expanded > RATIO_FROM_BYTES && expanded > packed * limits.maxExpansionRatio)
    throw new FileFault(
      'expands_too_far',
      `The file unpacks to more than ${limits.maxExpansionRatio} times its size, which no text does: ` +
        'unpack it yourself, or raise MLX_TRAINING_MAX_EXPANSION_RATIO',
    )
}

/** Unpacks a gzip stream of one or more members. FileFault when it is cut off, damaged or a bomb. */
export async function* gunzip(packed: AsyncIterable<Buffer>, limits: ExpansionLimits): AsyncGenerator<Buffer> {
  let packedBytes = 0
  const counted = async function* () {
    for await (const chunk of packed) {
      packedBytes += chunk.length
      yield chunk
    }
  }
  let expanded = 0
  try {
    for await (const chunk of through<Buffer>(counted(), createGunzip({ chunkSize: 256 * 1024 }))) {
      expanded += chunk.length
      checkExpansion(expanded, packedBytes, limits)
      yield chunk
    }
  } catch (error) {
    throw explained(error, expanded)
  }
}

function explained(error: unknown, expanded: number): unknown {
  const { code = '', message } = error as NodeJS.ErrnoException
  if (code === 'Z_BUF_ERROR')
    return new FileFault(
      'bad_gzip',
      `The gzip file was cut off: it ends inside its data, ${expanded} bytes of which could be unpacked`,
    )
  if (String(code).startsWith('Z_'))
    return new FileFault('bad_gzip', `The gzip file is damaged (${message}) after ${expanded} unpacked bytes`)
  return error
}

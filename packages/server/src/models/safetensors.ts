import { open } from 'node:fs/promises'

/** The header of a file of tensors: https://github.com/huggingface/safetensors#format */
export interface Header {
  tensors: Record<string, { dtype: string; shape: number[]; data_offsets: [start: number, end: number] }>
  metadata: Record<string, string>
}

/** The format's own limit of a header. */
const MAX_HEADER = 100_000_000

/** Reads no values. Throws for a file that is none, or is not as long as its header says: MLX maps weights lazily, so a
 *  copy that was cut short would be found only when its last tensors are read. */
export async function readHeader(path: string): Promise<Header> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const head = Buffer.alloc(8)
    await file.read(head, 0, 8, 0)
    const length = Number(head.readBigUInt64LE())
    if (length > MAX_HEADER || 8 + length > size) throw new Error('no header')
    const json = Buffer.alloc(length)
    await file.read(json, 0, length, 8)
    const { __metadata__: metadata = {}, ...tensors } = JSON.parse(json.toString('utf8'))
    const end = Object.values(tensors as Header['tensors']).reduce((end, one) => Math.max(end, one.data_offsets[1]), 0)
    if (size !== 8 + length + end) throw new Error('another length')
    return { tensors, metadata }
  } catch (cause) {
    throw new Error(`${path} is no safetensors file, or not as long as its header says`, { cause })
  } finally {
    await file.close()
  }
}
